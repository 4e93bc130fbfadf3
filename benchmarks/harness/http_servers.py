"""Servers of one policy, each in its own process on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
SERVERS = Path(__file__).parents[1] / "servers"
START_S = 300


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    pid: int


@contextmanager
def trpo_deploy_serve(
    policy: Path,
    folder: Path,
    *,
    checkout: Path = ROOT,
    workers: int = 1,
    options: Sequence[str] = (),
) -> Iterator[Server]:
    """Run ``trpo-deploy serve`` from a checkout; ``folder`` is made and takes its log."""
    port = free_port()
    arguments = [str(policy), "--port", str(port), "--workers", str(workers), *options]
    command = [sys.executable, "-m", "trpo_deploy", "serve", *arguments]
    with _running(command, port, folder, checkout, {}) as server:
        yield server


@contextmanager
def script_server(name: str, policy: Path, folder: Path) -> Iterator[Server]:
    """Run ``servers/NAME.py``, which reads its policy and port from the environment."""
    port = free_port()
    command = [sys.executable, str(SERVERS / f"{name}.py")]
    environment = {"POLICY": str(policy), "PORT": str(port)}
    with _running(command, port, folder, ROOT, environment) as server:
        yield server


@contextmanager
def bentoml_server(name: str, policy: Path, folder: Path) -> Iterator[Server]:
    """Run the service ``Plain`` of ``servers/NAME.py`` with ``bentoml serve``."""
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", f"{name}:Plain"]
    command += ["--working-dir", str(SERVERS), "--host", "127.0.0.1", "--port", str(port)]
    environment = {"POLICY": str(policy), "BENTOML_HOME": str(folder / "home")}
    with _running(command, port, folder, ROOT, environment) as server:
        yield server


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def _running(
    command: Sequence[str], port: int, folder: Path, checkout: Path, extra: dict[str, str]
) -> Iterator[Server]:
    folder.mkdir(parents=True)
    log = folder / "server.log"
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "BENTOML_DO_NOT_TRACK": "True",
        **extra,
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, cwd=folder
        )
        try:
            _wait_until_it_answers(port, process, log)
            yield Server(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait(START_S)


def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"a server ended: {log.read_text()}")
        try:
            # Not /readyz, which some of the servers do not have: any answer counts.
            httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"a server did not answer within {START_S} s: {log.read_text()}")
