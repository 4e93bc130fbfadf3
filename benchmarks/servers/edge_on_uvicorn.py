"""The service's own request handler without BentoML: shows what BentoML adds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import uvicorn

from trpo_deploy.serve.http.edge import Edge
from trpo_deploy.serve.models.own_registry import own_registry
from trpo_deploy.serve.settings import Settings

registry, _ = own_registry(Settings(models=(Path(os.environ["POLICY"]),)))


async def lifespan_only(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
    """The application behind the edge: start and stop, nothing else."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


uvicorn.run(
    Edge(lifespan_only, Settings(), lambda: registry),
    host="127.0.0.1",
    port=int(os.environ["PORT"]),
    loop="uvloop",
    http="httptools",
    ws="websockets-sansio",
    access_log=False,
    log_level="error",
    server_header=False,
    proxy_headers=False,
    ws_per_message_deflate=False,
)
