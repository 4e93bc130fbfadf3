"""WebSocket connections of a worker: uvicorn's protocol, with a bound on unfinished messages.

uvicorn stops reading after each complete message, so only the parts of one message can pile up on
a connection. Their size is bounded for each connection by ``ws_max_size``; here it is bounded for
all connections of the worker together.
"""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from trpo_deploy.serve.metrics import count_error

_FREE_BYTES = 64 * 1024
"""A connection that holds less stays open: small frames go on while large ones fill the bound."""
_FRAGMENT_BYTES = 64
"""Memory of a fragment beside its data."""
_TRY_AGAIN_LATER = 1013


class WebSocketTransport(WebSocketsSansIOProtocol):
    """One WebSocket connection of a worker."""

    max_bytes_in_flight: int
    """Maximum size of the unfinished messages of all connections, set by the worker."""
    _held_by_all = 0
    _held = 0
    _fragment_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, and count what is unfinished."""
        super().data_received(data)
        if len(self.frames) == 1:
            self._fragment_bytes = len(self.frames[0])
        held = len(self.conn.reader.buffer)
        if self.frames:
            held += self._fragment_bytes
        if held != self._held:
            self._count(held)

    def handle_cont(self, event: Frame) -> None:
        """A fragment of a message arrived."""
        self._fragment_bytes += len(event.data) + _FRAGMENT_BYTES
        super().handle_cont(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        self._count(0)
        super().connection_lost(exc)

    def _count(self, held: int) -> None:
        WebSocketTransport._held_by_all += held - self._held
        self._held = held
        if held > _FREE_BYTES and self._held_by_all > self.max_bytes_in_flight:
            count_error("overloaded")
            self.conn.fail(_TRY_AGAIN_LATER, "too many bytes are in flight")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()
