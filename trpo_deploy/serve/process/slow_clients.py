"""Connections on which a request does not arrive in time are closed.

uvicorn closes a connection that stays idle after an answer. One that never sends a whole request
(no byte, half a header, half a body) it would keep for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

_LOOK_S = 1.0


async def close_slow_clients(connections: Iterable[Any], seconds: float) -> None:
    """Look at the connections of a uvicorn server again and again.

    Args:
        connections: uvicorn's protocol objects, a set that it keeps up to date.
        seconds: time for a request to arrive.
    """
    waiting: WeakKeyDictionary[Any, tuple[Any, float]] = WeakKeyDictionary()
    while True:
        await asyncio.sleep(_LOOK_S)
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
    """What a connection waits for: a first or next request's header, or a request's body."""
    if not hasattr(connection, "cycle"):
        return None  # a WebSocket, which pings find out about
    request = connection.cycle
    if request is None:
        return connection
    if request.response_complete:
        # Between requests uvicorn's own timer runs; data stops it, so without it half a header
        # has come.
        return None if connection.timeout_keep_alive_task is not None else connection
    return request if request.more_body else None
