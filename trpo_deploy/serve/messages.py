"""Requests and replies as plain values, and the types of ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = b"application/json"
OCTETS = b"application/octet-stream"
HTML = b"text/html; charset=utf-8"


@dataclass(slots=True)
class Request:
    """One HTTP request with its complete body."""

    headers: dict[bytes, bytes]
    """Headers by lower-case name."""
    body: bytes
    model: str | None = None
    """Name of the model in the path; also of the one that answers, as soon as it is known."""
    version: str | None = None
    """Version of the model in the path."""

    @property
    def content_type(self) -> bytes:
        """The media type without parameters; JSON if there is no such header."""
        value = self.headers.get(b"content-type", JSON)
        return value if value == JSON else value.partition(b";")[0].strip().lower()


@dataclass(slots=True)
class Reply:
    """One HTTP response."""

    body: bytes
    model: str = ""
    """Name of the model that answered, for the metrics."""
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
