"""Send replies over ASGI."""

from __future__ import annotations

from trpo_deploy.serve.http.health import draining
from trpo_deploy.serve.messages import Reply, Send

NOSNIFF = (b"x-content-type-options", b"nosniff")
"""Header of every response: browsers then do not guess another type from the content."""


_CLOSE = (b"connection", b"close")


async def send_reply(send: Send, reply: Reply, kind: str = "http.response") -> None:
    """Send a reply as ASGI events ``{kind}.start`` and ``{kind}.body``.

    Before the worker stops, each reply closes its connection, so that the client's next request
    goes elsewhere. Later it could cross the worker's own end of the connection, and be lost.
    """
    last = (_CLOSE,) if draining.is_set() else ()
    await send(
        {
            "type": f"{kind}.start",
            "status": reply.status,
            "headers": [
                (b"content-type", reply.content_type),
                (b"content-length", b"%d" % len(reply.body)),
                NOSNIFF,
                *reply.headers,
                *last,
            ],
        }
    )
    await send({"type": f"{kind}.body", "body": reply.body})
