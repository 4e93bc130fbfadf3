"""Keys and raw requests for the server of the fixture ``guarded``."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.serve.server import Server

FIRST, SECOND = "first-key-of-the-tests", "second-key-of-the-tests"
OBS = {"observation": [1, 2, 3, 4]}
ORIGIN = "https://game.example"
HALF_BODY = (
    b"POST /predict HTTP/1.1\r\nhost: localhost\r\nx-api-key: " + FIRST.encode() + b"\r\n"
    b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
)


@dataclass(frozen=True)
class Guarded:
    """A server with keys, small limits and one allowed origin."""

    server: Server
    keys: Path

    def status(self, key: str) -> int:
        """The status of a good request with a key."""
        return self.server.client.post("/predict", json=OBS, headers=bearer(key)).status_code


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def connect_raw(server: Server, data: bytes) -> socket.socket:
    """Open a connection and send bytes."""
    address = urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=10)
    connection.sendall(data)
    return connection
