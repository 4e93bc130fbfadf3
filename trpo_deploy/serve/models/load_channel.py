"""From a worker to the publisher in the supervisor: load a model now."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Client, Listener
from pathlib import Path
from threading import Thread

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.publisher import Publisher
from trpo_deploy.serve.models.view import LoadResult, one_line

_MAX_NAME_BYTES = 1024


def answer_loads(publisher: Publisher, store: Path) -> None:
    """Answer the workers' requests in a thread, until the process ends."""
    listener = Listener(_address(store), "AF_UNIX")
    Thread(target=_answer, args=(listener, publisher), name="loads", daemon=True).start()


def request_load(store: Path, name: str) -> LoadResult:
    """Have the publisher of a store load a model.

    Raises:
        RequestError: The publisher does not answer (503).
    """
    try:
        with Client(_address(store), "AF_UNIX") as connection:
            # Bytes: the connection's other methods would pickle.
            connection.send_bytes(name.encode(errors="replace")[:_MAX_NAME_BYTES])
            return LoadResult(**json.loads(connection.recv_bytes()))
    except (OSError, EOFError) as error:
        raise RequestError(
            503, "load_unavailable", "models cannot be loaded now; try again in a second"
        ) from error


def _answer(listener: Listener, publisher: Publisher) -> None:
    while True:
        with suppress(OSError, EOFError), listener.accept() as connection:  # the worker may die
            name = connection.recv_bytes(_MAX_NAME_BYTES).decode(errors="replace")
            connection.send_bytes(json.dumps(asdict(_load(publisher, name))).encode())


def _load(publisher: Publisher, name: str) -> LoadResult:
    try:
        return publisher.load(name)
    except Exception as error:  # the thread goes on, whatever it was
        return LoadResult(known=True, error=one_line(error))


def _address(store: Path) -> str:
    return str(store / "loads")
