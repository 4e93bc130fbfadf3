"""Imports the service once, then forks a worker whenever the supervisor asks for one.

The supervisor runs ``python -m trpo_deploy.serve.process.zygote PLAN`` with a
:class:`Plan` as JSON. Nearly all of a worker's start is imports, so a forked worker is ready much
sooner, and the workers share the memory of what was imported.

A fork copies one thread only. This process therefore has a single thread, and opens no session of
onnxruntime and no event loop: ``docs/decisions/supervisor.md``. It keeps the last valid TLS
certificate, so that a worker can start while an invalid one lies on disk.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

from trpo_deploy.serve.process.channel import receive_with_fds, send
from trpo_deploy.serve.process.logs import configure_logs
from trpo_deploy.serve.process.metric_files import name_files_by_worker
from trpo_deploy.serve.process.plan import Plan
from trpo_deploy.serve.process.tls import Certificate
from trpo_deploy.serve.settings import Settings

_PRELOADED = (
    "_bentoml_impl.client",
    "_bentoml_impl.server.app",
    "bentoml._internal.runner.container",
    "bentoml._internal.server.http.access",
    "bentoml._internal.server.http.instruments",
    "bentoml._internal.server.http.traffic",
    "opentelemetry.instrumentation.asgi",
    "opentelemetry.sdk.trace",
    "starlette.middleware.cors",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "uvloop",
)
"""Imported by BentoML and uvicorn when a worker starts. It works without, only slower."""
_GRPC = "trpo_deploy.serve.grpc.server"
_ORPHANS_S = 40
"""Kill workers that have not ended this long after their supervisor has."""
_log = logging.getLogger(__name__)


def main(plan: Plan) -> None:
    """Import everything, then serve the supervisor."""
    for number in (signal.SIGINT, signal.SIGTERM):  # for the supervisor, which then tells us
        signal.signal(number, signal.SIG_IGN)
    configure_logs(Settings().log_format, "zygote")
    _raise_file_limit()
    name_files_by_worker()
    _preload(_PRELOADED if plan.grpc is None else (*_PRELOADED, _GRPC))
    _Zygote(plan).run()


def _preload(modules: Sequence[str]) -> None:
    from trpo_deploy.serve.process import worker  # noqa: F401

    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a worker would copy every page that it looks at


def _raise_file_limit() -> None:
    """Each connection takes a file descriptor; the usual soft limit is 1,024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError, OSError):  # macOS refuses "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Zygote:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._supervisor = socket.socket(fileno=plan.supervisor_fd)
        self._wake_up, self._wake = socket.socketpair()
        self._slots: dict[int, int] = {}
        """The slot of each worker, by process id."""
        self._supervised = True
        self._certificate = None
        if plan.tls is not None:
            self._certificate = Certificate(Path(plan.tls[0]), Path(plan.tls[1]))

    def run(self) -> None:
        """Fork and reap workers until the supervisor and all of them have ended."""
        for end in (self._wake_up, self._wake):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        give_up = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._supervisor, selectors.EVENT_READ, self._obey)
            selector.register(self._wake_up, selectors.EVENT_READ, self._reap)
            while self._supervised or self._slots:
                events = selector.select(1 if give_up or self._certificate else None)
                if self._certificate is not None:
                    self._certificate.refresh()
                for key, _ in events:
                    key.data()
                if not self._supervised and not give_up:
                    selector.unregister(self._supervisor)
                    give_up = monotonic() + _ORPHANS_S
                if give_up and monotonic() > give_up:
                    for pid in self._slots:
                        os.kill(pid, signal.SIGKILL)

    def _obey(self) -> None:
        packet, fds = receive_with_fds(self._supervisor)
        if packet is None:
            self._supervised = False
            return
        if packet["kind"] == "close":  # connections are refused when no process listens
            for listener in self._plan.listeners:
                os.close(listener)
            return
        slot, deaths = packet["slot"], packet["deaths"]
        try:
            pid = os.fork()
        except OSError as error:  # no memory, or too many processes; the supervisor tries again
            _log.error("cannot start worker %d: %s", slot + 1, error)
            os.close(fds[0])
            return
        if pid == 0:
            self._become_worker(slot, deaths, fds[0])
        os.close(fds[0])
        self._slots[pid] = slot
        send(self._supervisor, {"kind": "started", "slot": slot, "pid": pid})

    def _become_worker(self, slot: int, deaths: int, control_fd: int) -> None:
        """Run a worker in the forked process, and end it."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (self._supervisor, self._wake_up, self._wake):
                end.close()
            from trpo_deploy.serve.process.worker import run_worker

            control = socket.socket(fileno=control_fd)
            run_worker(self._plan, slot, deaths, control, self._certificate)
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            _log.exception("worker %d failed", slot + 1)
        finally:
            # Without the exit handlers, which belong to the zygote, and without waiting for
            # threads, which may hang.
            logging.shutdown()
            os._exit(status)

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            self._wake_up.recv(4096)
        for pid, slot in list(self._slots.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._slots[pid]
                code = os.waitstatus_to_exitcode(status)
                packet = {"kind": "ended", "slot": slot, "pid": pid, "status": code}
                send(self._supervisor, packet)


if __name__ == "__main__":
    main(Plan.from_json(sys.argv[1]))
