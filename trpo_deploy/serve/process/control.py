"""A worker's end of the channel to its supervisor."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from itertools import count

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.view import LoadResult
from trpo_deploy.serve.process.channel import Packet, receive, send

BEAT_S = 0.5
"""How often a worker tells its supervisor that its event loop runs."""
_LOAD_S = 90.0
"""Longest wait for the answer of the supervisor, which has its own, shorter limits."""


class Control:
    """Talks to the supervisor.

    Args:
        end: This end of the channel.
        generation: Returns the generation of the models that this worker serves.
        on_look: Called when there are new models to take up.
        on_stop: Called when the worker shall stop, with whether to drain first. Also called when
            the supervisor has ended.
    """

    def __init__(
        self,
        end: socket.socket,
        generation: Callable[[], int],
        on_look: Callable[[], None],
        on_stop: Callable[[bool], None],
    ) -> None:
        self._end = end
        self._generation = generation
        self._on_look = on_look
        self._on_stop = on_stop
        self._numbers = count()
        self._loads: dict[int, Future[Packet]] = {}

    def start(self) -> None:
        """Say that the worker is ready, listen, and send heartbeats from now on."""
        self._end.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._end, self._receive)
        self._send({"kind": "ready", "pid": os.getpid(), "generation": self._generation()})
        self._beats = self._loop.create_task(self._beat_forever())

    def load(self, name: str) -> LoadResult:
        """Have a model loaded, and wait until all workers serve the result.

        It blocks, so call it in a thread.

        Raises:
            RequestError: Loading failed, or takes too long (503).
        """
        future: Future[Packet] = Future()
        number = next(self._numbers)
        self._loads[number] = future
        packet = {"kind": "load", "number": number, "model": name}
        self._loop.call_soon_threadsafe(self._send, packet)
        try:
            reply = future.result(_LOAD_S)
        except FutureTimeoutError:
            reply = {"problem": "loading takes too long"}
        finally:
            del self._loads[number]
        if reply["problem"] is not None:
            message = f"model {name!r}: {reply['problem']}; try again in some seconds"
            raise RequestError(503, "load_unfinished", message, field="model")
        return LoadResult(**reply["result"])

    def _send(self, packet: Packet) -> None:
        send(self._end, packet)  # a supervisor that has ended is noticed by reading

    def _receive(self) -> None:
        with suppress(BlockingIOError):
            while True:
                packet = receive(self._end)
                if packet is None:
                    self._loop.remove_reader(self._end)
                    self._on_stop(False)
                    return
                self._handle(packet)

    def _handle(self, packet: Packet) -> None:
        if packet["kind"] == "look":
            self._on_look()
        elif packet["kind"] == "stop":
            self._on_stop(packet["drain"])
        elif packet["kind"] == "loaded" and packet["number"] in self._loads:
            self._loads[packet["number"]].set_result(packet)

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            self._send({"kind": "beat", "generation": self._generation()})
