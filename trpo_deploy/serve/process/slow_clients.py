"""Close connections whose request does not arrive in time.

uvicorn closes a connection that stays idle after a response. It would keep one for ever that
never completes a request (no byte, part of the headers, part of the body).
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary


class SlowClients:
    """Finds and closes slow connections.

    Args:
        connections: uvicorn's set of protocol objects, which it keeps up to date.
        seconds: Maximum time for a request to arrive.
    """

    def __init__(self, connections: Iterable[Any], seconds: float) -> None:
        self._connections = connections
        self._seconds = seconds
        self._waiting: WeakKeyDictionary[Any, tuple[Any, float]] = WeakKeyDictionary()

    async def check(self) -> None:
        """Close the connections that are too slow. Call it once a second."""
        now = monotonic()
        for connection in list(self._connections):
            request = _unfinished(connection)
            if request is None:
                self._waiting.pop(connection, None)
                continue
            seen, since = self._waiting.setdefault(connection, (request, now))
            if seen is not request:
                self._waiting[connection] = (request, now)
            elif now - since >= self._seconds:
                connection.transport.abort()


def _unfinished(connection: Any) -> Any:
    """What has not arrived completely on a connection.

    Returns:
        The connection if headers are missing, the request (uvicorn's cycle) if part of its body is
        missing, otherwise None.
    """
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
