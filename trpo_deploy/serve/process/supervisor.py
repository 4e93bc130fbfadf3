"""Starts worker processes, replaces those that die, and stops them all.

Why this is not uvicorn's or BentoML's supervisor: ``docs/decisions/supervisor.md``.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from trpo_deploy.errors import ServeError

_POLL_S = 0.05
_STOP_S = 40
"""Kill workers after this time. Longer than a worker's own limit for requests in flight."""
_MAX_START_FAILURES = 3
"""Maximum number of workers in a row that may die before they are ready."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    control: socket.socket
    """The worker sends one byte when it is ready, and stops when this end is closed."""
    ready: bool = False

    def check_ready(self) -> bool:
        """Whether the worker has become ready since the last call."""
        if self.ready:
            return False
        try:
            self.ready = self.control.recv(1) == b"+"
        except BlockingIOError:
            return False
        return self.ready


class Supervisor:
    """Keeps a number of workers running until a signal arrives.

    Args:
        listener: The listening socket, which the workers inherit.
        environment: Environment variables of the workers.
        workers: Number of workers.
        tls: PEM files of the certificate chain and its private key, for HTTPS.
    """

    def __init__(
        self,
        listener: socket.socket,
        environment: dict[str, str],
        workers: int,
        tls: tuple[Path, Path] | None,
    ) -> None:
        self._listener = listener
        self._environment = environment
        self._count = workers
        self._tls = [str(path.absolute()) for path in tls or ()]
        self._workers: list[_Worker] = []
        self._failures = 0

    def run(self, on_ready: Callable[[], None]) -> None:
        """Run until SIGINT or SIGTERM, then stop all workers.

        Args:
            on_ready: Called once, when all workers are ready.

        Raises:
            ServeError: Several workers in a row died before they were ready.
        """
        with _collect_signals() as received:
            try:
                self._workers = [self._start() for _ in range(self._count)]
                self._supervise(on_ready, received)
            finally:
                self._stop(received)

    def _supervise(self, on_ready: Callable[[], None], received: list[int]) -> None:
        announced = False
        while not received:
            self._replace_dead()
            if not announced and all(worker.ready for worker in self._workers):
                on_ready()
                announced = True
            sleep(_POLL_S)

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            fds = (self._listener.fileno(), theirs.fileno())
            module = "trpo_deploy.serve.process.worker"
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", module, *map(str, fds), *self._tls],
                pass_fds=fds,
                env=self._environment,
                stdin=subprocess.DEVNULL,
            )
        ours.setblocking(False)
        return _Worker(process, ours)

    def _replace_dead(self) -> None:
        for index, worker in enumerate(self._workers):
            if worker.check_ready():
                self._failures = 0
            if worker.process.poll() is None:
                continue
            worker.control.close()
            self._failures += not worker.ready
            if self._failures >= _MAX_START_FAILURES:
                raise ServeError(
                    f"workers died {self._failures} times before they were ready "
                    f"(exit status {worker.process.returncode}); see their messages above"
                )
            self._workers[index] = self._start()

    def _stop(self, received: list[int]) -> None:
        """Let the workers finish their requests. Kill them on a second signal or after 40 s."""
        self._listener.close()  # new connections are refused once the workers stop accepting
        for worker in self._workers:
            if signal.SIGTERM in received:
                worker.process.terminate()  # drains first
            else:
                worker.control.close()
        deadline = monotonic() + _STOP_S
        while any(worker.process.poll() is None for worker in self._workers):
            if len(received) > 1 or monotonic() > deadline:
                for worker in self._workers:
                    worker.process.kill()
            sleep(_POLL_S)
        for worker in self._workers:
            worker.control.close()


@contextmanager
def _collect_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list, in place of their default actions."""
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
