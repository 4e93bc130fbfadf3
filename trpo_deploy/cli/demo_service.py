"""The service of the demo: ``trpo-deploy serve`` as a process, and a client for it."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trpo_deploy.errors import ServeError

if TYPE_CHECKING:
    from trpo_deploy.spec.spaces import Array

_START_TIMEOUT_S = 60.0


class HttpPolicy:
    """The served policy: one ``POST /predict`` per action.

    Args:
        port: Port of the service on this machine.
    """

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.latencies: list[float] = []
        """Seconds from request to answer."""

    def __call__(self, observation: Array) -> int:
        """The action for an observation, float32 ``(4,)``."""
        body = json.dumps({"observation": observation.tolist()})
        start = time.perf_counter()
        self._connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        self.latencies.append(time.perf_counter() - start)
        if response.status != http.client.OK:
            raise ServeError(f"the service answered {response.status}: {answer}")
        return int(answer["action"])


@contextmanager
def service(model: Path) -> Iterator[int]:
    """Run ``trpo-deploy serve`` in its own process; gives the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "trpo_deploy", "serve", str(model), "--port", str(port)]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_until_ready(process, port)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _wait_until_ready(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            error = process.stderr.read() if process.stderr else ""
            raise ServeError(f"the service ended while starting: {error}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise ServeError(f"the service was not ready within {_START_TIMEOUT_S:g} s")
