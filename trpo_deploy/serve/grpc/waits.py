"""Calls that wait for their client: to send the request, or to take the reply."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.grpc.connection import Connections

_YOUNG_S = 1.0
"""Requests that came with their call have arrived after this time."""


class Waits:
    """The waits of a worker. The connection of a client that takes too long is closed.

    Args:
        connections: Those of the worker.
        seconds: Maximum time of a wait.
        maximum: Maximum number of waits.
    """

    def __init__(self, connections: Connections, seconds: float, maximum: int) -> None:
        self._connections = connections
        self._seconds = seconds
        self._maximum = maximum
        self._since: dict[object, tuple[str, float]] = {}
        """Client and start of each wait, the oldest first."""

    def check(self) -> None:
        """Make room for another call, if need be by closing connections with long waits.

        Raises:
            RequestError: There are too many waits (503).
        """
        if len(self._since) >= self._maximum and not self._close_older_than(_YOUNG_S):
            raise RequestError.overloaded(
                f"{self._maximum} calls wait for their clients; try again in a second"
            )

    def begin(self, wait: object, peer: str) -> None:
        """Begin a wait.

        Args:
            wait: Identifies it.
            peer: The client's connection, as the core names it.
        """
        self._since[wait] = peer, monotonic()

    def end(self, wait: object) -> None:
        """End a wait."""
        self._since.pop(wait, None)

    @contextmanager
    def waiting(self, wait: object, peer: str) -> Iterator[None]:
        """Wait for the time of the block."""
        self.begin(wait, peer)
        try:
            yield
        finally:
            self.end(wait)

    async def close_slow(self) -> None:
        """Close the connections of clients that take too long. Call it once a second."""
        self._close_older_than(self._seconds)

    def _close_older_than(self, seconds: float) -> bool:
        """Close the connections of long waits, and return whether there were any."""
        oldest = monotonic() - seconds
        closed = False
        for peer, since in self._since.values():
            if since > oldest:
                break
            connection = self._connections.by_peer.get(peer)
            if connection is not None:
                connection.transport.abort()
                closed = True
        return closed
