"""Send replies over ASGI."""

from __future__ import annotations

from trpo_deploy.serve.messages import Reply, Send

NOSNIFF = (b"x-content-type-options", b"nosniff")
"""Header of every response: browsers then do not guess another type from the content."""


async def send_reply(send: Send, reply: Reply, kind: str = "http.response") -> None:
    """Send a reply as ASGI events ``{kind}.start`` and ``{kind}.body``."""
    await send(
        {
            "type": f"{kind}.start",
            "status": reply.status,
            "headers": [
                (b"content-type", reply.content_type),
                (b"content-length", b"%d" % len(reply.body)),
                NOSNIFF,
                *reply.headers,
            ],
        }
    )
    await send({"type": f"{kind}.body", "body": reply.body})
