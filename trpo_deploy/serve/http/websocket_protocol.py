"""uvicorn's WebSocket connection, bounded in what a client can make it do or keep.

uvicorn parses and queues everything that it reads at once (256 KiB, which can be 40,000 frames),
and hands out the queue without giving way to other connections. Here frames are parsed as the
application takes them, and other connections have a turn after each. ``ws_max_size`` bounds the
unfinished message of one connection; :attr:`WebSocketProtocol.max_bytes_in_flight` bounds those of
all connections together.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from trpo_deploy.serve.metrics import count_error

_SLICE_BYTES = 4096
"""Parse at most this much at once."""
_SLICE_S = 0.001
"""Parse for at most this time before other connections have a turn."""
_FREE_BYTES = 64 * 1024
"""A connection that holds less stays open: small frames go on while large ones fill the bound."""
_TRY_AGAIN_LATER = 1013


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A connection with backpressure; a protocol error ends it without a line in the log."""

    max_bytes_in_flight: int
    """Maximum size of the unfinished messages of all connections, set by the worker."""
    _held_by_all = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.frames: list[Any] = []
        self._unread = bytearray()
        """Received, but not parsed yet."""
        self._held = 0

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, up to the first messages."""
        if len(data) <= _SLICE_BYTES and not self._unread:
            super().data_received(data)
            self._bound_bytes()
            return
        self._unread += data
        if len(self._unread) == len(data):  # otherwise a call is due
            self._parse()

    def _parse(self) -> None:
        """Parse until there is a message. The rest waits until the application has taken it."""
        deadline = perf_counter() + _SLICE_S
        while self._unread and self.queue.empty() and not self.disconnected:
            data = bytes(self._unread[:_SLICE_BYTES])
            del self._unread[:_SLICE_BYTES]
            super().data_received(data)
            if perf_counter() > deadline:
                break
        if self._unread and self.queue.empty():
            self.loop.call_soon(self._parse)
        self._bound_bytes()
        self._pause_or_resume()

    def _bound_bytes(self) -> None:
        """Count what is held of unfinished messages; close the connection if it is too much."""
        held = len(self.conn.reader.buffer) + len(self._unread) + sum(map(len, self.frames))
        if held == self._held:
            return
        self._count(held)
        if held > _FREE_BYTES and WebSocketProtocol._held_by_all > self.max_bytes_in_flight:
            count_error("overloaded")
            self.conn.fail(_TRY_AGAIN_LATER, "too many bytes are in flight")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()

    def _count(self, held: int) -> None:
        WebSocketProtocol._held_by_all += held - self._held
        self._held = held

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        self._count(0)
        super().connection_lost(exc)

    def _pause_or_resume(self) -> None:
        """Read from the client only if it reads, too, and nothing of it waits."""
        if self.transport.is_closing():
            return
        paused = bool(self._unread) or not self.queue.empty() or not self.writable.is_set()
        if paused == self.read_paused:
            return
        self.read_paused = paused
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    async def receive(self) -> Any:
        """The next message."""
        if not self.queue.empty():
            await asyncio.sleep(0)  # the client did not wait for an answer: others have a turn
        message = await self.queue.get()
        if self.queue.empty() and self._unread:
            self.loop.call_soon(self._parse)
        else:
            self._pause_or_resume()
        return message

    async def send(self, message: Any) -> None:
        """Send a message, unless a protocol error has ended the connection."""
        if not self.writable.is_set():
            await self.writable.wait()
        if self.close_sent and message["type"] == "websocket.send":
            raise ClientDisconnected
        await super().send(message)

    def pause_writing(self) -> None:
        """Stop reading as well: pings are answered at once, whether or not the client reads."""
        super().pause_writing()
        self._pause_or_resume()

    def resume_writing(self) -> None:
        """Read again."""
        super().resume_writing()
        self._pause_or_resume()

    def handle_cont(self, event: Any) -> None:
        """Append a fragment. A list of millions of tiny fragments would take too much memory."""
        if not isinstance(self.frames[0], bytearray):
            self.frames[0] = bytearray(self.frames[0])
        self.frames[0] += event.data
        if event.fin:
            self.frames[0] = bytes(self.frames[0])
            self.send_receive_event_to_app()

    def send_receive_event_to_app(self) -> None:
        """Queue a message. Text that is not UTF-8 closes the connection with code 1007."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                self.frames[0].decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.send_close(1007, "text that is not UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()
