"""HTTP/2 frames by hand, for clients that no library would be."""

from __future__ import annotations

import socket
from contextlib import suppress
from types import TracebackType

from tests.serve.grpc.requests import SERVICE
from trpo_deploy.serve.grpc.frames import PREFACE

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW = 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def call_headers(stream: int, method: str = "ModelInfer", flags: int = 0, **more: str) -> bytes:
    """The start of a call. Its headers are literals that are not compressed."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"{SERVICE}/{method}",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        **more,
    }
    block = b""
    for name, value in fields.items():
        for text in (name, value):
            assert len(text) < 127
        block += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return frame(HEADERS, END_HEADERS | flags, stream, block)


def message(data: bytes) -> bytes:
    """A message with its flag and length."""
    return b"\0" + len(data).to_bytes(4, "big") + data


class RawClient:
    """A connection that sends what it is told to, and as much as the server lets it."""

    def __init__(self, address: str, window: int = 65535) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        setting = INITIAL_WINDOW.to_bytes(2, "big") + window.to_bytes(4, "big")
        self.send(PREFACE + frame(SETTINGS, 0, 0, setting))
        self.closed = False
        self.ended: set[int] = set()
        """Streams that the server has ended."""
        self.replies: dict[int, bytes] = {}
        """Data of each stream."""
        self._windows: dict[int, int] = {0: 65535}
        self._first_window = 65535
        self._received = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.settimeout(30)
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def send_data(self, stream: int, data: bytes) -> int:
        """Send as much data as the flow control allows, and return its size."""
        self._windows.setdefault(stream, self._first_window)
        sent = 0
        while sent < len(data):
            size = min(16384, len(data) - sent, self._windows[0], self._windows[stream])
            if size <= 0:
                break
            self.send(frame(DATA, 0, stream, data[sent : sent + size]))
            for each in (0, stream):
                self._windows[each] -= size
            sent += size
        return sent

    def receive(self, seconds: float) -> None:
        """Handle what the server sends within a time."""
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(1 << 20)
        except TimeoutError:
            return
        except ConnectionError:
            data = b""
        self.closed = self.closed or not data
        self._received += data
        while len(self._received) >= 9:
            size = int.from_bytes(self._received[:3], "big")
            if len(self._received) < 9 + size:
                return
            kind, flags = self._received[3], self._received[4]
            stream = int.from_bytes(self._received[5:9], "big")
            payload = self._received[9 : 9 + size]
            self._received = self._received[9 + size :]
            self._handle(kind, flags, stream, payload)

    def receive_until_closed(self, seconds: float = 60) -> bool:
        """Whether the server closes the connection, and ends the streams, within a time."""
        self.socket.settimeout(seconds)
        with suppress(ConnectionError):
            while self.socket.recv(1 << 20):
                pass
        return True

    def _handle(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for start in range(0, len(payload), 6):
                if int.from_bytes(payload[start : start + 2], "big") == INITIAL_WINDOW:
                    self._first_window = int.from_bytes(payload[start + 2 : start + 6], "big")
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            self._windows.setdefault(stream, self._first_window)
            self._windows[stream] += int.from_bytes(payload, "big")
        elif kind == DATA:
            self.replies[stream] = self.replies.get(stream, b"") + payload
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.ended.add(stream)
