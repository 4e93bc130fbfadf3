"""Request one action from a running service, with the standard library only.

    trpo-deploy serve runs/CartPole-v1
    python examples/http_client.py [--url http://127.0.0.1:3000] [--model NAME] [OBSERVATION]

OBSERVATION is JSON; the default is one of CartPole's.
"""

from __future__ import annotations

import argparse
import json
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

CARTPOLE = [0.01, -0.02, 0.03, 0.04]


def act(url: str, request: dict[str, object]) -> object:
    """The action for an observation.

    Raises:
        SystemExit: The service cannot be reached, or has refused the request.
    """
    body = json.dumps(request).encode()
    post = Request(f"{url}/predict", body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urlopen(post, timeout=5) as response:  # noqa: S310 - the user's own service
            return json.load(response)["action"]
    except HTTPError as error:
        raise SystemExit(f"http_client: {json.load(error)['error']['message']}") from error
    except (URLError, TimeoutError) as error:
        start = "start one with: trpo-deploy serve runs/CartPole-v1"
        raise SystemExit(f"http_client: no service at {url} ({error}); {start}") from error


def as_json(text: str) -> object:
    """Parse an observation."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error


def main() -> None:
    """Print the action."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("observation", nargs="?", type=as_json, default=CARTPOLE, help="as JSON")
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--model", help="where several are served")
    options = parser.parse_args()
    request = {"observation": options.observation}
    print(act(options.url, request | ({"model": options.model} if options.model else {})))


if __name__ == "__main__":
    main()
