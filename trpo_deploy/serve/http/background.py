"""Tasks that a worker repeats in the background: metrics, models, keys, slow clients, TLS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic

_OVERDUE_S = 30.0
"""A task that has not completed a round for this long makes the worker not ready."""
_log = logging.getLogger(__name__)


@dataclass
class _Task:
    look_now: asyncio.Event = field(default_factory=asyncio.Event)
    completed: float = field(default_factory=monotonic)
    error: str | None = None
    """Why the last round failed; it is logged once."""
    runner: asyncio.Task[None] | None = None


class BackgroundTasks:
    """The background tasks of a process. None can stop another, and none ends by an error."""

    def __init__(self) -> None:
        self._tasks: dict[str, _Task] = {}

    def start(self, name: str, step: Callable[[], Awaitable[object]], seconds: float = 1) -> None:
        """Repeat a step until :meth:`stop`.

        Args:
            name: Name of the task in logs and in ``/readyz``.
            step: One round. After an error it is repeated like after a success.
            seconds: Pause between two rounds.
        """
        task = self._tasks[name] = _Task()
        task.runner = asyncio.create_task(_repeat(name, task, step, seconds), name=name)

    def start_in_thread(self, name: str, step: Callable[[], object], seconds: float = 1) -> None:
        """Repeat a step that may block, in a thread that only this task uses."""
        thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        loop = asyncio.get_running_loop()
        self.start(name, lambda: loop.run_in_executor(thread, step), seconds)

    def look_now(self, name: str) -> None:
        """End the present pause of a task."""
        if name in self._tasks:
            self._tasks[name].look_now.set()

    def overdue(self) -> list[str]:
        """The tasks that have ended, or have not completed a round for long."""
        oldest = monotonic() - _OVERDUE_S
        return [
            name
            for name, task in self._tasks.items()
            if task.completed < oldest or (task.runner is not None and task.runner.done())
        ]

    def stop(self) -> None:
        """Cancel all tasks."""
        for task in self._tasks.values():
            if task.runner is not None:
                task.runner.cancel()
        self._tasks.clear()


async def _repeat(
    name: str, task: _Task, step: Callable[[], Awaitable[object]], seconds: float
) -> None:
    while True:
        try:
            await step()
        except Exception as error:
            text = repr(error)
            if text != task.error:
                _log.exception("%s failed and will be tried again", name)
            task.error = text
        else:
            task.completed, task.error = monotonic(), None
        try:
            await asyncio.wait_for(task.look_now.wait(), seconds)
        except asyncio.TimeoutError:
            continue
        task.look_now.clear()


background = BackgroundTasks()
"""Those of this process."""
