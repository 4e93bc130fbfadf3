"""A request and a reply as plain values, between the ASGI layer and the endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from trpo_deploy.serve.errors import RequestError

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
    """One request, read to its end."""

    headers: dict[bytes, bytes]
    """By lower-case name."""
    body: bytes
    name: str | None = None
    """The model that the path names."""
    version: str | None = None
    """Its version that the path names."""

    @property
    def content_type(self) -> bytes:
        """The media type without its parameters; JSON if the client says nothing."""
        value = self.headers.get(b"content-type", JSON)
        return value if value == JSON else value.partition(b";")[0].strip().lower()


@dataclass(slots=True)
class Reply:
    """One answer."""

    body: bytes
    model: str = ""
    """The served model's name, for the metrics."""
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The body of a request.

    Raises:
        RequestError: it is longer than ``limit`` bytes.
        ClientGoneError: it never came.
    """
    if b"content-encoding" in headers:
        raise RequestError(
            415,
            "unsupported_encoding",
            "send the body as it is, not compressed",
            field="content-encoding",
            expected="no such header",
            received=headers[b"content-encoding"].decode("latin-1")[:64],
        )
    length = headers.get(b"content-length")
    if length is not None and int(length) > limit:
        raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        if len(body) > limit:
            raise _too_large(limit)
        return body
    chunks = [body]
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
    return b"".join(chunks)


def _too_large(limit: int) -> RequestError:
    return RequestError(
        413,
        "body_too_large",
        f"the body is longer than {limit} bytes; send fewer observations at once, or as binary",
        expected=f"at most {limit} bytes",
        # What is still on its way would be read as the next request.
        headers=((b"connection", b"close"),),
    )


async def send_reply(send: Send, reply: Reply, kind: str = "http.response") -> None:
    """Send an answer over ASGI, as events of a kind."""
    await send(
        {
            "type": f"{kind}.start",
            "status": reply.status,
            "headers": [
                (b"content-type", reply.content_type),
                (b"content-length", str(len(reply.body)).encode()),
                *reply.headers,
            ],
        }
    )
    await send({"type": f"{kind}.body", "body": reply.body})
