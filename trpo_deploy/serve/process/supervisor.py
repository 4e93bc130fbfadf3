"""``serve``: check everything, start the workers, start a dead one again, stop them all.

BentoML has a supervisor too (``bentoml serve``), which this service runs under as well. This
one is in use because BentoML's brings a killed worker back after ten seconds, starts a worker
that cannot start again and again, and opens a control port on the machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from trpo_deploy.errors import ServeError
from trpo_deploy.extras import require
from trpo_deploy.serve.http.access import KeyFile
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.settings import Settings

_WORKER = "trpo_deploy.serve.process.worker"
_POLL_S = 0.05
_STOP_S = 40
"""Longer than a worker takes to answer what is in flight."""
_START_FAILURES = 3
"""Workers in a row that may die before they were ready."""


def serve(
    models: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    workers: int = 1,
    tls: tuple[Path, Path] | None = None,
    **changes: Any,
) -> None:
    """Serve policies until SIGINT or SIGTERM.

    Args:
        models: model folders, ONNX files, or folders of model folders.
        host: address to listen on; ``0.0.0.0`` for all of the machine's.
        port: TCP port; 0 for any free one.
        workers: processes, each with all models. One a core is enough.
        tls: PEM files of the certificate chain and of its private key, for HTTPS.
        changes: fields of :class:`Settings`. One that is left at its default is taken from the
            environment, where the variable is set.

    Raises:
        ServeError: the service cannot start.
        ModelDirError: a path has no ``policy.onnx``.
        MissingExtraError: the extra ``serve`` is not installed.
    """
    require("serve")
    if workers < 1:
        raise ServeError(f"workers must be 1 or more, received {workers}")
    paths = tuple(path.absolute() for path in models)
    settings = Settings.from_environment().changed(models=paths, **changes)
    names = _check(settings, tls)
    with _listen(host, port) as listener, _metrics_folder() as metrics:
        environment = {
            **os.environ,
            **settings.to_environment(),
            "PROMETHEUS_MULTIPROC_DIR": metrics,
            "BENTOML_DO_NOT_TRACK": "True",
        }
        supervisor = _Supervisor(listener, environment, workers, tls)
        supervisor.run(lambda: _announce(listener, names, tls is not None))


def _check(settings: Settings, tls: tuple[Path, Path] | None) -> list[str]:
    """Find out here, with one clear error, what would else fail in a worker.

    Returns:
        The names of the models.
    """
    registry = Registry(settings.models)
    for slot in registry.slots.values():
        if slot.error is not None:
            raise ServeError(slot.error)
    for path in (settings.api_key_file, settings.admin_key_file):
        if path is not None:
            KeyFile(path)
    if tls is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*tls)
        except OSError as error:  # ssl.SSLError is one
            raise ServeError(
                f"{tls[0]} and {tls[1]} are no certificate chain and key in PEM form: {error}"
            ) from error
    return list(registry.slots)


def _announce(listener: socket.socket, names: list[str], tls: bool) -> None:
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    address = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    print(f"serving {', '.join(names)} at {address} (docs: {address}/docs)", flush=True)


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """Open the listening socket, which the workers inherit."""
    if not 0 <= port <= 65535:
        raise ServeError(f"port must be 0 to 65535, received {port}")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ServeError(f"host {host!r} is no address of this machine: {error}") from error
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(2048)
        except OSError as error:
            raise ServeError(
                f"cannot listen on {host} port {port}: {error.strerror}; stop what uses it or "
                "give another with --port"
            ) from error
        yield listener


@contextmanager
def _metrics_folder() -> Iterator[str]:
    """A folder through which the workers add up their metrics."""
    # In memory where that can be: each count writes to a mapped file, and a write to one that
    # is on its way to a disk waits for the disk.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    folder = tempfile.mkdtemp(prefix="trpo-deploy-metrics-", dir=memory)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    control: socket.socket
    ready: bool = False

    def check_ready(self) -> bool:
        """Whether the worker has just become ready."""
        if self.ready:
            return False
        try:
            self.ready = self.control.recv(1) == b"+"
        except BlockingIOError:
            return False
        return self.ready


class _Supervisor:
    """Keeps a number of workers running until a signal comes."""

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
        """Run until SIGINT or SIGTERM, then stop all workers."""
        with _signals() as received:
            try:
                self._workers = [self._start() for _ in range(self._count)]
                self._run(on_ready, received)
            finally:
                self._stop_workers(received)

    def _run(self, on_ready: Callable[[], None], received: list[int]) -> None:
        announced = False
        while not received:
            self._tend()
            if not announced and all(worker.ready for worker in self._workers):
                on_ready()
                announced = True
            sleep(_POLL_S)

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            fds = (self._listener.fileno(), theirs.fileno())
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [
                    sys.executable,
                    "-m",
                    "trpo_deploy.serve.process.worker",
                    *map(str, fds),
                    *self._tls,
                ],
                pass_fds=fds,
                env=self._environment,
                stdin=subprocess.DEVNULL,
            )
        ours.setblocking(False)
        return _Worker(process, ours)

    def _tend(self) -> None:
        """Note workers that became ready, start dead ones again."""
        for index, worker in enumerate(self._workers):
            if worker.check_ready():
                self._failures = 0
            if worker.process.poll() is None:
                continue
            worker.control.close()
            self._failures += not worker.ready
            if self._failures >= _START_FAILURES:
                raise ServeError(
                    f"a worker ended {self._failures} times before it was ready "
                    f"(exit status {worker.process.returncode}); its messages are above"
                )
            self._workers[index] = self._start()

    def _stop_workers(self, received: list[int]) -> None:
        """Let the workers end what they do; a second signal, or half a minute, ends it."""
        self._listener.close()  # a new connection is refused once the workers stop taking any
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
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list."""
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
