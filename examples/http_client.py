"""Request one action from a running service, with the standard library only.

trpo-deploy serve runs/CartPole-v1
python examples/http_client.py http://127.0.0.1:3000 '[0.01, -0.02, 0.03, 0.04]'
"""

from __future__ import annotations

import json
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def main(url: str, observation: str) -> None:
    """Print the action, or the service's error message."""
    body = json.dumps({"observation": json.loads(observation)}).encode()
    request = Request(f"{url}/predict", body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urlopen(request, timeout=5) as response:  # noqa: S310 - the user's own service
            print(json.load(response)["action"])
    except HTTPError as error:
        print(json.load(error)["error"]["message"], file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
