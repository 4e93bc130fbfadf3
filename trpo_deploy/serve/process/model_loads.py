"""``/admin/models/NAME/load`` in the supervisor: answered when all workers have the result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Protocol

from trpo_deploy.serve.errors import RequestError

_log = logging.getLogger(__name__)


class ModelSource(Protocol):
    """Loads models for all workers."""

    def load(self, name: str) -> int:
        """Load a model now, even if its files did not change.

        Returns:
            The generation that has the result. Workers report the generation that they serve.

        Raises:
            RequestError: The model does not exist, or its files were refused.
        """
        ...


class ServingWorker(Protocol):
    """What is known of a worker."""

    ready: bool
    generation: int


@dataclass
class _Load:
    model: str
    answer: Callable[[dict[str, Any] | None], object]
    generation: int = 0
    error: dict[str, Any] | None = None
    deadline: float = 0.0


class ModelLoads:
    """Runs the loads one after the other in a thread, and answers them.

    Args:
        source: Loads the models.
        wake: Makes the supervisor call :meth:`update`; called from the thread.
        seconds: Time for the workers to take up a model that has been loaded.
    """

    def __init__(self, source: ModelSource, wake: Callable[[], object], seconds: float) -> None:
        self._source = source
        self._wake = wake
        self._seconds = seconds
        self._requested: SimpleQueue[_Load] = SimpleQueue()
        self._loaded: SimpleQueue[_Load] = SimpleQueue()
        self._waiting: list[_Load] = []
        Thread(target=self._run, name="model loads", daemon=True).start()

    def request(self, model: str, answer: Callable[[dict[str, Any] | None], object]) -> None:
        """Load a model.

        Args:
            model: Its name.
            answer: Called by :meth:`update` with None, or the arguments of a
                :class:`RequestError`.
        """
        self._requested.put(_Load(model, answer))

    def update(self, workers: Iterable[ServingWorker]) -> bool:
        """Answer the loads that all ready workers have taken up, or that took too long.

        Returns:
            Whether there is a new generation to tell the workers of.
        """
        new = False
        while not self._loaded.empty():
            load = self._loaded.get()
            load.deadline = monotonic() + self._seconds
            self._waiting.append(load)
            new = new or load.error is None
        behind = min((worker.generation for worker in workers if worker.ready), default=None)
        for load in list(self._waiting):
            if load.error is None and (behind is None or behind < load.generation):
                if monotonic() < load.deadline:
                    continue
                load.error = _unfinished(load.model)
            self._waiting.remove(load)
            load.answer(load.error)
        return new

    def _run(self) -> None:
        while True:
            load = self._requested.get()
            try:
                load.generation = self._source.load(load.model)
            except RequestError as error:
                load.error = _to_packet(error)
            except Exception:
                _log.exception("loading model %s failed", load.model)
                load.error = {"status": 500, "code": "internal", "message": "the service failed"}
            self._loaded.put(load)
            self._wake()


def _unfinished(model: str) -> dict[str, Any]:
    return {
        "status": 503,
        "code": "load_unfinished",
        "message": f"model {model!r} is loaded, but not all workers serve it yet; ask again",
        "field": "model",
    }


def _to_packet(error: RequestError) -> dict[str, Any]:
    return {
        "status": error.status,
        "code": error.code,
        "message": error.message,
        "field": error.field,
        "expected": error.expected,
        "received": error.received,
    }
