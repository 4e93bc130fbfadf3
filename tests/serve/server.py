"""A real server in its own process, on a free port of 127.0.0.1."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

ZYGOTE = "trpo_deploy.serve.process.zygote"
_START_S = 60


class Server:
    """A running ``serve`` and a client for it."""

    def __init__(self, process: subprocess.Popen[str], url: str, grpc: str = "") -> None:
        self.process = process
        self.url = url
        self.grpc = grpc
        """Address of gRPC; empty if it is off."""
        self.client = httpx.Client(base_url=url, timeout=20)

    def predict(self, observation: Any, **more: Any) -> httpx.Response:
        return self.client.post("/predict", json={"observation": observation, **more})

    def websocket_url(self, name: str) -> str:
        return self.url.replace("http", "ws") + f"/ws/{name}"

    def zygote(self) -> psutil.Process | None:
        """The process that forks the workers, if it runs."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):
                if ZYGOTE in child.cmdline():
                    return child
        return None

    def stop(self) -> list[str]:
        """Stop the server, and return the lines that it wrote since it has been serving."""
        self.process.terminate()
        output, _ = self.process.communicate(timeout=_START_S)
        return output.splitlines()

    def metric(self, name: str) -> float:
        """The value of a metric, 0 if there is none. ``name`` includes the labels."""
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))

    def workers(self) -> list[psutil.Process]:
        zygote = self.zygote()
        return [] if zygote is None else zygote.children()

    def has_replaced(self, victim: psutil.Process, number: int) -> bool:
        """Whether there are so many workers again, and all have started their threads."""
        workers = self.workers()
        with suppress(psutil.NoSuchProcess):
            ready = [worker for worker in workers if worker.num_threads() > 1]
            return victim not in workers and len(ready) == number
        return False


@contextmanager
def running(*models: Path, **options: Any) -> Iterator[Server]:
    """Start a server with options of ``serve``, and stop it by its own pid.

    The option ``max_files`` is its limit of file descriptors, and ``before`` code to run first.
    """
    max_files, before = options.pop("max_files", None), options.pop("before", "")
    limit = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({max_files}, {max_files}))\n"
    code = (
        f"import resource\n{limit if max_files else ''}{before}\n"
        "from pathlib import Path, PosixPath\nfrom trpo_deploy.serve import serve\n"
        f"serve([Path(p) for p in {[str(m) for m in models]!r}], port=0, **{options!r})\n"
        "print('stopped', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with serving(process) as server:
        yield server


@contextmanager
def serving(process: subprocess.Popen[str]) -> Iterator[Server]:
    """Wait until a process prints ``serving at URL``, and stop it at the end."""
    assert process.stdout is not None
    try:
        log: list[str] = []
        while not (line := process.stdout.readline()).startswith("serving"):
            log.append(line)
            assert line, "".join(log)
        found = re.search(r" at (https?://\S+)", line)
        assert found, line
        grpc = re.search(r"gRPC at (\S+)", line)
        server = Server(process, found[1], grpc[1] if grpc else "")
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
