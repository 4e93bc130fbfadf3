"""Close connections whose client does not send its request, or does not read its answer.

uvicorn closes a connection that stays idle after a response. It would keep one for ever that
never completes a request (no byte, part of the headers, part of the body), and one whose client
reads nothing, with the answers that wait for it.
"""

from __future__ import annotations

import fcntl
import termios
from array import array
from collections.abc import Iterable
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from trpo_deploy.serve.grpc.connection import GrpcConnection


class SlowClients:
    """Finds and closes slow connections.

    Args:
        connections: Set of protocol objects that is kept up to date.
        seconds: Maximum time for a request to arrive, and without progress in reading an answer.
    """

    def __init__(self, connections: Iterable[Any], seconds: float) -> None:
        self._connections = connections
        self._seconds = seconds
        self._waiting: WeakKeyDictionary[Any, tuple[object, float]] = WeakKeyDictionary()

    async def check(self) -> None:
        """Close the connections that are too slow. Call it once a second."""
        now = monotonic()
        for connection in list(self._connections):
            unfinished = _unfinished(connection)
            if unfinished is None:
                self._waiting.pop(connection, None)
                continue
            seen, since = self._waiting.setdefault(connection, (unfinished, now))
            if seen != unfinished:
                self._waiting[connection] = (unfinished, now)
            elif now - since >= self._seconds:
                connection.transport.abort()


def _unfinished(connection: Any) -> object:
    """What the client of a connection has not finished.

    Returns:
        The number of unread bytes if part of an answer waits for the client to read, True if only
        that keeps a closed connection open, the connection if headers are missing, the request
        (uvicorn's cycle) or gRPC message if part of it is missing, otherwise None.
    """
    if connection.transport.is_closing():
        return True
    unread = _unread(connection.transport)
    if unread:
        return unread
    if isinstance(connection, GrpcConnection):
        return connection.uploads.oldest()
    if not hasattr(connection, "cycle"):
        return None  # a WebSocket; pings detect those that are gone
    request = connection.cycle
    if request is None:
        return connection
    if request.response_complete:
        # Between requests uvicorn's keep-alive timer runs and any data stops it. Without the
        # timer, part of the next headers has arrived.
        return None if connection.timeout_keep_alive_task is not None else connection
    return request if request.more_body else None


def _unread(transport: Any) -> int:
    """Bytes that wait for the client; 0 as long as the system takes them all.

    The system takes more only when much of what it has is gone. Its count shows progress earlier.
    """
    waiting: int = transport.get_write_buffer_size()
    if not waiting:
        return 0
    sending = array("i", [0])
    fcntl.ioctl(transport.get_extra_info("socket"), termios.TIOCOUTQ, sending)
    return waiting + sending[0]
