"""Stands in for ``trpo-deploy``: forks of one process that has imported what the commands import.

Importing torch takes two seconds, most of the time of many commands. ``serve`` starts as ever: its
process gets signals.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

PRELOADED = (
    *("bentoml", "matplotlib.pyplot", "mujoco", "onnx", "optuna", "stable_baselines3"),
    "torch._dynamo",
)
"""Other projects' packages only: ours are imported by each command as ever.

Not onnxruntime: a fork of a process that has imported it hangs when it ends.
"""

CLIENT = """\
#!{python} -IS
import json, os, socket, sys

if sys.argv[1:2] == ["serve"]:
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"x"], [0, 1, 2])
    request = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "variables": dict(os.environ)}}
    server.sendall(json.dumps(request).encode() + b"\\n")
    sys.exit(int(server.recv(16)))
"""


@contextmanager
def forked_command(folder: Path) -> Iterator[Path]:
    """Start the process to fork.

    Args:
        folder: An empty folder, with a path short enough for a socket's address.

    Yields:
        A folder for ``PATH``, with a program ``trpo-deploy``.
    """
    address = str(folder / "socket")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", __name__, address], stdout=subprocess.PIPE, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            real = str(Path(sys.executable).with_name("trpo-deploy"))
            program = folder / "bin" / "trpo-deploy"
            program.parent.mkdir()
            program.write_text(CLIENT.format(python=sys.executable, real=real, address=address))
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
            yield program.parent
        finally:
            process.kill()


def main(address: str) -> None:
    """Import, then fork a process for each command; returns in that process only."""
    for name in PRELOADED:
        import_module(name)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                break
            connection.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
    with connection:
        _, streams, *_ = socket.recv_fds(connection, 1, 3)
        request = json.loads(connection.makefile().readline())
        if child := os.fork():
            _wait(child, connection)
    _become(request, streams)


def _wait(child: int, connection: socket.socket) -> None:
    """Send a child's exit code and end; kill it if the client is gone."""
    process = os.pidfd_open(child)
    awaited: list[Any] = [process, connection]
    ready, *_ = select.select(awaited, [], [])
    if process not in ready:
        os.kill(child, 9)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if process in ready:
        connection.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Take over the client's streams, folder, variables and arguments."""
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
        os.close(stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    sys.argv = ["trpo-deploy", *request["arguments"]]


if __name__ == "__main__":
    main(sys.argv[1])
    from trpo_deploy.cli.app import main as command

    command()
