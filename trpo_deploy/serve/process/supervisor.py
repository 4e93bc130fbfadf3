"""Starts worker processes, replaces those that die or are stuck, and stops them all.

Workers are forked by a zygote, a process that has imported everything. Why this is not uvicorn's
or BentoML's supervisor: ``docs/decisions/supervisor.md``.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from time import monotonic

from trpo_deploy.errors import ServeError
from trpo_deploy.serve.models.view import LoadResult
from trpo_deploy.serve.process.channel import Packet, open_channel, receive, send
from trpo_deploy.serve.process.metric_files import MetricFiles
from trpo_deploy.serve.process.model_loads import ModelLoads, ModelSource
from trpo_deploy.serve.process.zygote_process import ZygoteProcess

_TURN_S = 0.5
"""Maximum time between two looks at the workers' heartbeats."""
STOP_S = 40
"""Kill workers this long after they should have drained. Longer than a worker's own limit for
requests in flight."""
_FORK_S = 60
"""Time for the zygote to import everything and fork a worker."""
START_S = 300
"""Time for a worker to load its models."""
_MAX_START_FAILURES = 3
"""The service ends if this many workers in a row die before any was ready."""
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Worker:
    """One process. It lives as long as its end of the channel is open."""

    slot: _Slot
    control: socket.socket
    pid: int = 0
    """0 until the zygote has forked it."""
    ready: bool = False
    generation: int = -1
    """Generation of the models that it serves."""
    alive_at: float = field(default_factory=monotonic)
    """When it was started or sent its last heartbeat."""
    stuck: bool = False
    """Whether it was killed because of missing heartbeats."""
    status: int | None = None
    """Exit status, negative for a signal, if it is known."""

    @property
    def end(self) -> str:
        """How it ended."""
        if self.stuck:
            return "was stuck and killed"
        if self.status is None:
            return "ended"
        if self.status < 0:
            return f"was killed by {signal.Signals(-self.status).name}"
        return f"ended with exit status {self.status}"

    def kill(self) -> None:
        """Kill the process."""
        # The process id cannot belong to another process while the channel is open.
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


@dataclass(eq=False)
class _Slot:
    """The place of one worker and of its replacements."""

    index: int
    worker: _Worker | None = None
    failures: int = 0
    """How many workers in a row died before they were ready."""
    deaths: int = 0
    """How many have died since the last one that was ready."""
    dead: _Worker | None = None
    """The last worker that was ready, if it has died and is not replaced."""
    failed: _Worker | None = None
    """The last worker that died before it was ready."""
    died_at: float = 0.0
    start_at: float = 0.0


class Supervisor:
    """Keeps a number of workers running until a signal arrives.

    Args:
        zygote: Forks the workers.
        listeners: The listening sockets, which the workers inherit.
        workers: Number of workers.
        stuck_seconds: Replace a worker that sends no heartbeat for this long.
        drain_seconds: Time after SIGTERM in which workers still accept requests.
        metrics: The files of the workers' metrics.
        source: Loads models for all workers.
    """

    def __init__(
        self,
        zygote: ZygoteProcess,
        listeners: Sequence[socket.socket],
        workers: int,
        stuck_seconds: float,
        drain_seconds: float,
        metrics: MetricFiles,
        source: ModelSource,
    ) -> None:
        self._zygote = zygote
        self._listeners = listeners
        self._slots = [_Slot(index) for index in range(workers)]
        self._stuck_s = stuck_seconds
        self._drain_s = drain_seconds
        self._metrics = metrics
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake_end = socket.socketpair()
        self._loads = ModelLoads(source, self._wake, stuck_seconds + 5)
        self._zygote_due = 0.0
        self._announced = self._ever_ready = False

    def run(self, on_ready: Callable[[], None]) -> None:
        """Run until SIGINT or SIGTERM, then stop all workers.

        Args:
            on_ready: Called once, when all workers are ready.

        Raises:
            ServeError: Several workers in a row died before any was ready.
        """
        for end in (self._woken, self._wake_end):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain_wakes)
        with _collect_signals(self._wake_end) as received:
            try:
                while not received:
                    self._start_due()
                    self._turn()
                    self._restart_zygote()
                    if not self._announced and all(w and w.ready for w in self._workers()):
                        on_ready()
                        self._announced = True
            finally:
                self._stop(received)

    def _workers(self) -> list[_Worker | None]:
        return [slot.worker for slot in self._slots]

    def _living(self) -> list[_Worker]:
        return [worker for worker in self._workers() if worker is not None]

    def _wake(self) -> None:
        with suppress(BlockingIOError, OSError):
            self._wake_end.send(b"!")

    def _drain_wakes(self) -> None:
        with suppress(BlockingIOError):
            self._woken.recv(4096)

    # One turn

    def _turn(self) -> None:
        """Wait for what happens next, and handle it."""
        before = monotonic()
        due = [slot.start_at - before for slot in self._slots if slot.worker is None]
        for key, _ in self._selector.select(max(0.0, min([_TURN_S, *due]))):
            key.data()
        now = monotonic()
        if now - before > 2 * _TURN_S:
            # This process stood still too (suspended, or paused with its workers), so missing
            # heartbeats say nothing.
            for worker in self._living():
                worker.alive_at += now - before
        self._kill_stuck(now)
        if self._loads.update(self._living()):
            for worker in self._living():
                send(worker.control, {"kind": "look"})

    def _kill_stuck(self, now: float) -> None:
        for worker in self._living():
            limit = self._stuck_s if worker.ready else START_S if worker.pid else _FORK_S
            if worker.stuck or now - worker.alive_at <= limit:
                continue
            worker.stuck = True
            _log.error(
                "worker %d (pid %d) has not responded for %d s; killing it",
                worker.slot.index + 1,
                worker.pid,
                limit,
            )
            if worker.pid:
                worker.kill()
            else:
                self._zygote.kill()

    # Start and replace

    def _start_due(self) -> None:
        now = monotonic()
        for slot in self._slots:
            if slot.worker is None and now >= slot.start_at:
                if slot.failures:
                    self._report_failure(slot)
                self._start(slot)

    def _report_failure(self, slot: _Slot) -> None:
        assert slot.failed is not None
        end = slot.failed.end
        if not self._ever_ready and slot.failures >= _MAX_START_FAILURES:
            raise ServeError(
                f"workers died {slot.failures} times before they were ready "
                f"(the last one {end}); see their messages above"
            )
        _log.error("worker %d %s before it was ready; starting it again", slot.index + 1, end)

    def _start(self, slot: _Slot) -> None:
        if not self._zygote.running:
            self._start_zygote()
        ours, theirs = open_channel()
        with theirs:
            self._zygote.fork(slot.index, slot.deaths, theirs.fileno())
        ours.setblocking(False)
        slot.worker = worker = _Worker(slot, ours)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(worker))

    def _restart_zygote(self) -> None:
        """Have a zygote at hand before the next worker dies."""
        now = monotonic()
        if self._ever_ready and not self._zygote.running and now >= self._zygote_due:
            self._zygote_due = now + _LONGEST_PAUSE_S
            _log.warning("the process that forks workers ended; starting it again")
            self._start_zygote()

    def _start_zygote(self) -> None:
        channel = self._zygote.start()
        self._selector.register(channel, selectors.EVENT_READ, self._hear_from_zygote)

    def _hear_from_zygote(self) -> None:
        with suppress(BlockingIOError):
            while True:
                packet = receive(self._zygote.channel)
                if packet is None:
                    self._selector.unregister(self._zygote.channel)
                    self._zygote.reap()
                    return
                slot = self._slots[packet["slot"]]
                if packet["kind"] == "started" and slot.worker is not None:
                    slot.worker.pid = packet["pid"]
                elif packet["kind"] == "ended":
                    for worker in (slot.worker, slot.dead, slot.failed):
                        if worker is not None and worker.pid == packet["pid"]:
                            worker.status = packet["status"]

    def _hear(self, worker: _Worker) -> None:
        """Read what a worker has sent."""
        with suppress(BlockingIOError):
            while True:
                packet = receive(worker.control)
                if packet is None:
                    self._bury(worker)
                    return
                self._handle(worker, packet)

    def _handle(self, worker: _Worker, packet: Packet) -> None:
        worker.alive_at = monotonic()
        if packet["kind"] == "load":
            self._request_load(worker, packet)
            return
        worker.generation = packet["generation"]
        if packet["kind"] == "ready":
            worker.pid = packet["pid"]  # this channel may be faster than the zygote's
            self._welcome(worker)

    def _request_load(self, worker: _Worker, packet: Packet) -> None:
        def answer(result: LoadResult | None, problem: str | None) -> None:
            reply: Packet = {"kind": "loaded", "number": packet["number"], "problem": problem}
            if result is not None:
                reply["result"] = asdict(result)
            with suppress(OSError):  # the worker may have ended
                send(worker.control, reply)

        self._loads.request(packet["model"], answer)

    def _welcome(self, worker: _Worker) -> None:
        worker.ready = self._ever_ready = True
        slot = worker.slot
        slot.failures = slot.deaths = 0
        if slot.dead is not None:
            _log.warning(
                "worker %d (pid %d) %s; replaced in %.1f s",
                slot.index + 1,
                slot.dead.pid,
                slot.dead.end,
                monotonic() - slot.died_at,
            )
        slot.dead = None

    def _bury(self, worker: _Worker) -> None:
        """Plan the replacement of a worker that has ended."""
        self._selector.unregister(worker.control)
        worker.control.close()
        slot = worker.slot
        slot.worker = None
        self._metrics.forget_gauges(slot.index)
        slot.deaths += 1
        now = monotonic()
        if worker.ready:
            slot.dead, slot.died_at, slot.start_at = worker, now, now
            return
        slot.failed = worker
        slot.start_at = now + _pause_after(slot.failures)
        slot.failures += 1

    # Stop

    def _stop(self, received: list[int]) -> None:
        """Let the workers finish their requests; kill them on a second signal, or after a time."""
        for listener in self._listeners:
            listener.close()
        self._zygote.close_listeners()
        for worker in self._living():
            if not worker.pid:
                self._bury(worker)  # it sees the end of the channel as soon as it exists
        drain = signal.SIGTERM in received
        for worker in self._living():
            send(worker.control, {"kind": "stop", "drain": drain})
            if not worker.ready:
                worker.kill()  # it serves nobody, and would load all its models first
        deadline = monotonic() + STOP_S + (self._drain_s if drain else 0)
        while self._living():
            if len(received) > 1 or monotonic() > deadline:
                for worker in self._living():
                    worker.kill()
            for slot in self._slots:
                slot.start_at = deadline
            self._turn()
        self._zygote.stop()
        for end in (self._woken, self._wake_end):
            end.close()
        self._selector.close()


def _pause_after(failures: int) -> float:
    """Seconds until a worker is started again after so many failures before this one."""
    return min(_SHORTEST_PAUSE_S * float(2 ** min(failures, 30)), _LONGEST_PAUSE_S)


@contextmanager
def _collect_signals(wake_end: socket.socket) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list, and wake the selector, in place of their actions."""
    received: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    fd = signal.set_wakeup_fd(wake_end.fileno(), warn_on_full_buffer=False)
    try:
        yield received
    finally:
        signal.set_wakeup_fd(fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
