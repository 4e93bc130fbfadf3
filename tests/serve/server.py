"""A real server in its own process, on a free port of 127.0.0.1."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

ZYGOTE = "trpo_deploy.serve.process.zygote"
_START_S = 60


class Server:
    """A running ``serve`` and a client for it."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=20)

    def predict(self, observation: Any, **more: Any) -> httpx.Response:
        return self.client.post("/predict", json={"observation": observation, **more})

    def websocket_url(self, name: str) -> str:
        return self.url.replace("http", "ws") + f"/ws/{name}"

    def zygote(self) -> psutil.Process:
        """The process that forks the workers."""
        children = psutil.Process(self.process.pid).children()
        (zygote,) = [child for child in children if ZYGOTE in child.cmdline()]
        return zygote

    def workers(self) -> list[psutil.Process]:
        return self.zygote().children()


@contextmanager
def running(*models: Path, **options: Any) -> Iterator[Server]:
    """Start a server with options of ``serve``, and stop it by its own pid."""
    code = (
        "from pathlib import Path, PosixPath\nfrom trpo_deploy.serve import serve\n"
        f"serve([Path(p) for p in {[str(m) for m in models]!r}], port=0, **{options!r})\n"
        "print('stopped', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        log: list[str] = []
        while not (line := process.stdout.readline()).startswith("serving"):
            log.append(line)
            assert line, "".join(log)
        url = line.split(" at ")[1].split()[0]
        server = Server(process, url)
        with server.client:
            yield server
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(_START_S)
        process.stdout.close()


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Poll a condition until it holds or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def all_gone(processes: list[psutil.Process]) -> bool:
    """Whether processes have ended."""
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)
