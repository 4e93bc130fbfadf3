"""Accepts the connections of one worker.

In place of uvicorn's and gRPC's own listening: connections are spread over the workers, file
descriptors cannot run out, and a TLS handshake has a time limit and the certificate of the moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable, Sized
from contextlib import suppress

from trpo_deploy.serve.process.connection_counts import ConnectionCounts

_YIELD_S = 0.002
"""How long to leave a connection to a worker with fewer."""
_RETRY_S = 0.2
"""Pause after the system refused to accept."""
_RESERVE = 64
"""File descriptors that connections must leave free: for models, keys, logs and refusals."""
_LINGER_S = 1.0
_BODY = (
    b'{"error":{"code":"overloaded","message":"the worker has no more connections; try again in a'
    b' second","field":null,"expected":null,"received":null}}'
)
HTTP_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
) % (len(_BODY), _BODY)
"""Answer to a connection beyond the maximum."""
_log = logging.getLogger(__name__)


class Acceptor:
    """Accepts connections from a listening socket that several workers share.

    Args:
        listener: The socket.
        make_protocol: Makes the protocol of a connection.
        open_connections: The connections of this worker, kept up to date by their protocols.
        counts: The numbers of connections of all workers.
        tls: Returns the context of a new connection; None without TLS.
        handshake_seconds: Time for a TLS handshake.
        maximum: Maximum number of connections.
        refusal: What to send before a connection beyond them is closed.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        open_connections: Sized,
        counts: ConnectionCounts,
        tls: Callable[[], ssl.SSLContext] | None,
        handshake_seconds: float,
        maximum: int,
        refusal: bytes,
    ) -> None:
        self._listener = listener
        self._make_protocol = make_protocol
        self._open = open_connections
        self._counts = counts
        self._tls = tls
        self._handshake_seconds = handshake_seconds
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._refusing = 0
        self._paused: asyncio.TimerHandle | None = None
        self._maximum = maximum
        self._refusal = refusal
        self._closed = False

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)
        self.tell_count()

    def close(self) -> None:
        """Stop accepting. Open connections stay."""
        self._closed = True
        self._loop.remove_reader(self._listener)
        if self._paused is not None:
            self._paused.cancel()
        self._listener.close()

    def tell_count(self) -> None:
        """Tell the other workers how many connections this one has. Call it every 0.1 s."""
        if not self._closed:
            self._counts.write(self._count())

    def _count(self) -> int:
        return len(self._open) + len(self._opening)

    def _accept(self) -> None:
        """Accept one connection, if this worker may. The event loop calls again for the next."""
        if self._others_have_fewer():
            self._pause(_YIELD_S)
            return
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return  # another worker was faster, or the client has gone
        except OSError as error:  # the system has no file descriptor or memory left
            _log.error("cannot accept connections: %s", error)
            self._pause(_RETRY_S)
            return
        connection.setblocking(False)
        if self._count() >= self._maximum:
            self._refuse(connection)
            return
        task = self._loop.create_task(self._open_connection(connection))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        self.tell_count()

    def _others_have_fewer(self) -> bool:
        """Whether another worker has clearly fewer connections, and so should take the next."""
        least = self._counts.least_of_others()
        return least is not None and self._count() > least + max(1, least // 64)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._paused = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    async def _open_connection(self, connection: socket.socket) -> None:
        tls = self._tls
        try:
            await self._loop.connect_accepted_socket(
                self._make_protocol,
                connection,
                ssl=None if tls is None else tls(),
                ssl_handshake_timeout=None if tls is None else self._handshake_seconds,
            )
        except (OSError, EOFError):  # includes ssl.SSLError: the client's handshake failed
            connection.close()

    def _refuse(self, connection: socket.socket) -> None:
        """Refuse a connection. The reserve of descriptors bounds how many are refused at once."""
        if not self._refusal or self._refusing >= _RESERVE // 2:
            connection.close()
            return
        with suppress(OSError):
            connection.send(self._refusal)
            connection.shutdown(socket.SHUT_WR)
        # Closing at once could discard the answer: the client's request has not been read.
        self._refusing += 1
        self._loop.call_later(_LINGER_S, self._close_refused, connection)

    def _close_refused(self, connection: socket.socket) -> None:
        self._refusing -= 1
        connection.close()


def free_descriptors() -> int:
    """How many file descriptors the limit leaves for connections."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    used = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 32
    return max(8, limit - used - _RESERVE)
