"""From a worker to the publisher in the supervisor: load a model now."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Thread

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.publisher import Publisher
from trpo_deploy.serve.models.view import LoadResult, one_line

_MAX_NAME_BYTES = 1024


def answer_loads(publisher: Publisher) -> None:
    """Answer the workers' requests in a thread, until the process ends."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(_address(publisher.store))
    listener.listen()
    Thread(target=_answer, args=(listener, publisher), name="loads", daemon=True).start()


def request_load(store: Path, name: str) -> LoadResult:
    """Have the publisher of a store load a model.

    Raises:
        RequestError: The publisher does not answer (503).
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(_address(store))
            connection.sendall(name.encode(errors="replace")[:_MAX_NAME_BYTES] + b"\n")
            with connection.makefile("rb") as reply:
                return LoadResult(**json.loads(reply.read()))
    except (OSError, ValueError) as error:
        raise RequestError(
            503, "load_unavailable", "models cannot be loaded now; try again in a second"
        ) from error


def _answer(listener: socket.socket, publisher: Publisher) -> None:
    while True:
        connection, _ = listener.accept()
        with suppress(OSError), connection, connection.makefile("rb") as lines:  # it may die
            name = lines.readline(_MAX_NAME_BYTES + 1).decode(errors="replace").rstrip("\n")
            connection.sendall(json.dumps(asdict(_load(publisher, name))).encode())


def _load(publisher: Publisher, name: str) -> LoadResult:
    try:
        return publisher.load(name)
    except Exception as error:  # the thread goes on, whatever it was
        return LoadResult(known=True, error=one_line(error))


def _address(store: Path) -> str:
    return str(store / "loads")
