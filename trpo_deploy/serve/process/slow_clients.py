"""Close connections whose request does not arrive in time.

uvicorn closes a connection that stays idle after a response. It would keep one for ever that
never completes a request (no byte, part of the headers, part of the body).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

_CHECK_S = 1.0


async def close_slow_clients(connections: Iterable[Any], seconds: float) -> None:
    """Check the connections of a uvicorn server once a second, until cancelled.

    Args:
        connections: uvicorn's set of protocol objects, which it keeps up to date.
        seconds: Maximum time for a request to arrive.
    """
    waiting: WeakKeyDictionary[Any, tuple[Any, float]] = WeakKeyDictionary()
    while True:
        await asyncio.sleep(_CHECK_S)
        now = monotonic()
        for connection in list(connections):
            request = _unfinished(connection)
            if request is None:
                waiting.pop(connection, None)
                continue
            seen, since = waiting.setdefault(connection, (request, now))
            if seen is not request:
                waiting[connection] = (request, now)
            elif now - since >= seconds:
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
