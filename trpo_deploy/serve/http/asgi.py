"""Read request bodies and send replies over ASGI."""

from __future__ import annotations

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.messages import Receive, Reply, Send


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


async def read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """Read the body of a request.

    Raises:
        RequestError: The body is longer than ``limit`` bytes, or compressed.
        ClientGoneError: The client disconnected.
    """
    if b"content-encoding" in headers:
        raise RequestError(
            415,
            "unsupported_encoding",
            "send the body uncompressed",
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
    return await _read_rest(body, receive, limit)


async def _read_rest(start: bytes, receive: Receive, limit: int) -> bytes:
    chunks = [start]
    size = len(start)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return b"".join(chunks)


def _too_large(limit: int) -> RequestError:
    return RequestError(
        413,
        "body_too_large",
        f"the body is longer than {limit} bytes; send fewer observations, or send them as binary",
        expected=f"at most {limit} bytes",
        # Close: the unread rest of the body would be taken for the next request.
        headers=((b"connection", b"close"),),
    )


async def send_reply(send: Send, reply: Reply, kind: str = "http.response") -> None:
    """Send a reply as ASGI events ``{kind}.start`` and ``{kind}.body``."""
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
