"""Run the service with BentoML's own server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.serve.server import wait_until


@contextmanager
def bentoml_serve(target: str, home: Path, **environment: str) -> Iterator[str]:
    """Run ``bentoml serve`` on a free port, and stop it by its pid."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host", "127.0.0.1"]
    own = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", **environment}
    log = (home.parent / "log").open("w+")
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        env={**os.environ, **own},
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=home.parent,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        assert wait_until(lambda: process.poll() is not None or is_ready(url), 60)
        log.seek(0)
        assert process.poll() is None, log.read()
        yield url
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False
