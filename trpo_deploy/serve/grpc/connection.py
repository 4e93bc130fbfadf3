"""gRPC connections of a worker: passed on to gRPC's core, with limits on what it has to keep.

The core would listen itself, but not on a socket that workers share. Accepted by the worker,
gRPC's connections are spread over the workers, use the renewed certificate, and have the limits of
HTTP's. Each is connected to the core by a Unix socket.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from trpo_deploy.serve.grpc.frames import (
    DATA,
    GOAWAY,
    PADDED,
    PREFACE,
    FrameReader,
    Uploads,
    ends_stream,
)
from trpo_deploy.serve.metrics import count_error

_FREE_BYTES = 64 * 1024
"""A connection with less than this of unfinished messages is not closed for the bytes in flight."""


class Connections:
    """The open connections of a worker.

    Args:
        core: Path of the socket on which the core listens.
        max_message: Maximum size of a message, bytes.
        max_bytes: Maximum size of the unfinished messages of all connections.
        max_streams: Maximum number of streams of a connection, which the core tells clients.

    Attributes:
        held: Bytes of the unfinished messages of all connections.
        open: All of them.
        by_peer: Those that are connected to the core, by the core's name for them.
    """

    def __init__(self, core: str, max_message: int, max_bytes: int, max_streams: int) -> None:
        self.core = core
        self.max_message = max_message
        self.max_bytes = max_bytes
        self.max_streams = max_streams
        self.held = 0
        self.open: set[GrpcConnection] = set()
        self.by_peer: dict[str, GrpcConnection] = {}

    def client_of(self, peer: str) -> str:
        """Address of the client of a connection to the core; ``_`` if it has gone."""
        connection = self.by_peer.get(peer)
        address = connection and connection.transport.get_extra_info("peername")
        return f"{address[0]}:{address[1]}" if address else "_"

    def refused_message(self, peer: str) -> bool:
        """Whether the core has refused a message of a connection because of its size."""
        connection = self.by_peer.get(peer)
        if connection is None or not connection.uploads.too_large:
            return False
        connection.uploads.too_large -= 1
        return True


class GrpcConnection(asyncio.Protocol):
    """A client's connection.

    Args:
        connections: Those of the worker.

    Attributes:
        transport: To the client.
        uploads: The messages of the client that have not arrived completely.
    """

    transport: asyncio.Transport

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._frames = FrameReader(len(PREFACE))
        self.uploads = Uploads(connections.max_message)
        self._counted = 0
        self._early: list[bytes] = []
        """What arrived before there was a connection to the core."""
        self._core: asyncio.Transport | None = None
        self._answers: _Core | None = None
        self._peer = ""
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the core."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's has no common base class
        self._all.open.add(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            end = socket.socket(socket.AF_UNIX)
        except OSError:  # there are no file descriptors
            self.transport.abort()
            return
        try:
            end.setblocking(False)
            end.bind("")  # the system gives it a name
            await loop.sock_connect(end, self._all.core)
            core, answers = await loop.create_unix_connection(lambda: _Core(self), sock=end)
        except OSError:  # the core has stopped
            end.close()
            self.transport.abort()
            return
        if self.transport.is_closing():
            core.abort()
            return
        self._core, self._answers = core, answers
        self._peer = f"unix-abstract:{end.getsockname()[1:].decode()}"
        self._all.by_peer[self._peer] = self
        core.writelines(self._early)
        self._early.clear()
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Pass on what the client sent, unless it exceeds the limits."""
        for kind, flags, stream, piece in self._frames.read(data):
            if kind == DATA:
                if flags & PADDED:  # no gRPC client pads, and it would hide where messages end
                    self.transport.abort()
                    return
                self.uploads.add(stream, piece)
            if ends_stream(kind, flags):
                self.uploads.end(stream)
        self._count(self.uploads.held)
        if len(self.uploads) > self._all.max_streams:
            self.transport.abort()
        elif self._counted > _FREE_BYTES and self._all.held > self._all.max_bytes:
            count_error("overloaded")
            self.transport.abort()
        elif self._core is None:
            self._early.append(data)
            self.transport.pause_reading()
        elif not self._core.is_closing():
            self._core.write(data)

    def answer(self, data: bytes, ended: list[int]) -> None:
        """Send what the core sent. It has ended some streams."""
        for stream in ended:
            self.uploads.end(stream)
        self._count(self.uploads.held)
        if not self.transport.is_closing():
            self.transport.write(data)

    def end(self) -> None:
        """Ask the client to begin no more calls on this connection."""
        if self._answers is not None:
            self._answers.end()

    def pause_writing(self) -> None:
        """The client does not read: the core must wait."""
        if self._core is not None and not self._core.is_closing():
            self._core.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._core is not None and not self._core.is_closing():
            self._core.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Tell the core that the client has gone."""
        self._all.open.discard(self)
        self._all.by_peer.pop(self._peer, None)
        self._count(0)
        if self._core is not None:
            self._core.abort()

    def _count(self, held: int) -> None:
        self._all.held += held - self._counted
        self._counted = held


class _Core(asyncio.Protocol):
    """The core's end of a client's connection."""

    def __init__(self, client: GrpcConnection) -> None:
        self._client = client
        self._frames = FrameReader()
        self._ends = False

    def data_received(self, data: bytes) -> None:
        """Pass on what the core sent."""
        frames = self._frames.read(data)
        ended = [stream for kind, flags, stream, _ in frames if ends_stream(kind, flags)]
        self._client.answer(data, ended)
        if self._ends:
            self.end()

    def end(self) -> None:
        """Ask the client to begin no more calls, now or when the present frame is complete."""
        self._ends = not self._frames.between_frames
        if not self._ends:
            self._client.answer(GOAWAY, [])

    def pause_writing(self) -> None:
        """The core does not read: the client must wait."""
        if not self._client.transport.is_closing():
            self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        """The core reads again."""
        if not self._client.transport.is_closing():
            self._client.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Send the client what is left, and close."""
        self._client.transport.close()
