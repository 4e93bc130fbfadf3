"""``/admin/models/NAME/load`` in the supervisor: answered when all workers have the result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Protocol, TypeAlias

from trpo_deploy.serve.models.view import LoadResult

_log = logging.getLogger(__name__)


class ModelSource(Protocol):
    """Loads models for all workers."""

    def load(self, name: str) -> LoadResult:
        """Load a model now, even if its files did not change."""
        ...


class ServingWorker(Protocol):
    """What is known of a worker."""

    ready: bool
    generation: int


Answer: TypeAlias = Callable[[LoadResult | None, str | None], object]
"""Called with the result, or with the reason why there is none yet."""


@dataclass
class _Load:
    model: str
    answer: Answer
    result: LoadResult | None = None
    problem: str | None = None
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

    def request(self, model: str, answer: Answer) -> None:
        """Load a model. ``answer`` is called by :meth:`update`."""
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
            new = True
        slowest = min((worker.generation for worker in workers if worker.ready), default=-1)
        for load in list(self._waiting):
            if load.result is not None and slowest < load.result.generation:
                if monotonic() < load.deadline:
                    continue
                load.problem = "it is loaded, but not all workers serve it yet"
            self._waiting.remove(load)
            load.answer(load.result, load.problem)
        return new

    def _run(self) -> None:
        while True:
            load = self._requested.get()
            try:
                load.result = self._source.load(load.model)
            except Exception as error:
                _log.exception("loading model %s failed", load.model)
                load.problem = f"loading failed ({type(error).__name__}); the log has the reason"
            self._loaded.put(load)
            self._wake()
