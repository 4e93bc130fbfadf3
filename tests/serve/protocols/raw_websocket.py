"""A WebSocket client that sends any bytes, which no well-behaved library does."""

from __future__ import annotations

import socket
import struct
from urllib.parse import urlsplit

TEXT, BINARY, CLOSE, PING = 0x81, 0x82, 0x88, 0x89
"""First bytes of a frame: the last fragment of a message, and the opcode."""


def open_socket(url: str) -> socket.socket:
    """Connect and finish the handshake."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port or 80), timeout=30)
    lines = [
        f"GET {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(1)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return connection


def frame(first: int, payload: bytes = b"", *, mask: bool = True) -> bytes:
    """A frame with a given first byte."""
    size = len(payload)
    flag = 0x80 if mask else 0
    if size < 126:
        head = bytes([first, flag | size])
    elif size < 65536:
        head = bytes([first, flag | 126]) + struct.pack("!H", size)
    else:
        head = bytes([first, flag | 127]) + struct.pack("!Q", size)
    return head + (bytes(4) if mask else b"") + payload  # a mask of zeros changes nothing


def receive_all(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    received = b""
    try:
        while data := connection.recv(1 << 16):
            received += data
    except ConnectionResetError:
        pass  # the server closed while data was on its way to it
    return received
