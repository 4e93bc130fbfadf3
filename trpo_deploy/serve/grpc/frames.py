"""The frames of an HTTP/2 connection, as far as limits need them.

gRPC's core parses HTTP/2. It hands over a message when all of it has arrived, and until then
nobody can ask how much it holds. So the bytes of unfinished messages are counted here, on their
way to it.

Source: RFC 9113, section 4.1 (frames); "gRPC over HTTP2" (messages: a flag, four bytes of length).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends before its first frame."""
DATA, _HEADERS, _RST_STREAM, _GOAWAY, _CONTINUATION = 0, 1, 3, 7, 9
_END_STREAM, _END_HEADERS, PADDED = 0x1, 0x4, 0x8
_HEAD = 9
_MESSAGE_HEAD = 5
_LAST_STREAM, _NO_ERROR = 2**31 - 1, 0
GOAWAY = b"\0\0\x08" + bytes((_GOAWAY, 0)) + struct.pack(">LLL", 0, _LAST_STREAM, _NO_ERROR)
"""The frame that asks a client to begin no more calls on a connection. Those that it has begun, and
those that it begins until it gets the frame, are answered (RFC 9113, section 6.8)."""


class FrameReader:
    """Splits the bytes of one direction into frames.

    Args:
        skip: Bytes before the first frame.
    """

    def __init__(self, skip: int = 0) -> None:
        self._head = b""
        self._kind, self._flags, self._stream = -1, 0, 0
        self._missing = skip
        """Bytes of the present frame's payload that have not arrived."""

    @property
    def between_frames(self) -> bool:
        """Whether another frame may be put in after what was read."""
        if self._missing or self._head or self._kind < 0:  # the first frame has the settings
            return False
        return self._kind not in (_HEADERS, _CONTINUATION) or bool(self._flags & _END_HEADERS)

    def read(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Read what arrived.

        Yields:
            Kind, flags and stream of a frame, and a piece of its payload. The flag
            ``END_STREAM`` comes with the last piece.
        """
        start = 0
        while start < len(data):
            if not self._missing:
                more = _HEAD - len(self._head)
                self._head += data[start : start + more]
                start += more
                if len(self._head) < _HEAD:
                    return
                head, self._head = self._head, b""
                self._missing = int.from_bytes(head[:3], "big")
                self._kind, self._flags = head[3], head[4]
                self._stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
                if not self._missing:
                    yield self._kind, self._flags, self._stream, b""
                continue
            piece = data[start : start + self._missing]
            start += len(piece)
            self._missing -= len(piece)
            flags = self._flags & ~_END_STREAM if self._missing else self._flags
            yield self._kind, flags, self._stream, piece


def ends_stream(kind: int, flags: int) -> bool:
    """Whether a frame is the last one of its sender on its stream."""
    return kind == _RST_STREAM or (kind in (DATA, _HEADERS) and bool(flags & _END_STREAM))


@dataclass(slots=True, eq=False)
class Upload:
    """A message that has not arrived completely."""

    head: bytes = b""
    """Its flag and length, as far as they have arrived."""
    missing: int = 0
    """Bytes that are still to come, when the length is known."""
    held: int = 0
    """Bytes that have arrived."""


class Uploads:
    """The unfinished messages of one connection.

    Args:
        max_bytes: Maximum size of a message; the core refuses longer ones.

    Attributes:
        held: Bytes of them all.
        too_large: Number of messages that were longer than the maximum.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._uploads: dict[int, Upload] = {}
        self.held = 0
        self.too_large = 0

    def __len__(self) -> int:
        return len(self._uploads)

    def oldest(self) -> Upload | None:
        """The message that has been arriving for the longest time."""
        return next(iter(self._uploads.values()), None)

    def add(self, stream: int, data: bytes) -> None:
        """Count a piece of a stream's data."""
        if stream not in self._uploads and self._is_message(data):
            return
        start = 0
        while start < len(data):
            upload = self._uploads.setdefault(stream, Upload())
            before = start
            if not upload.missing:
                more = _MESSAGE_HEAD - len(upload.head)
                upload.head += data[start : start + more]
                start = min(start + more, len(data))
                if len(upload.head) == _MESSAGE_HEAD:
                    upload.missing = int.from_bytes(upload.head[1:], "big")
                    self.too_large += upload.missing > self._max_bytes
                done = len(upload.head) == _MESSAGE_HEAD and not upload.missing
            else:
                start = min(start + upload.missing, len(data))
                upload.missing -= start - before
                done = not upload.missing
            upload.held += start - before
            self.held += start - before
            if done:
                self.end(stream)

    def _is_message(self, data: bytes) -> bool:
        """Whether a piece is exactly one message, as nearly all are."""
        size = len(data) - _MESSAGE_HEAD
        return 0 <= size <= self._max_bytes and size == int.from_bytes(data[1:5], "big")

    def end(self, stream: int) -> None:
        """Forget a stream's message: it is complete, or will never be."""
        upload = self._uploads.pop(stream, None)
        if upload is not None:
            self.held -= upload.held
