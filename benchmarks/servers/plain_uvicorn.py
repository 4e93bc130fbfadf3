"""The policy behind bare uvicorn and Starlette: no checks, no counters, no limits."""

from __future__ import annotations

import os

import numpy as np
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from trpo_deploy.runtime import OnnxPolicy

policy = OnnxPolicy(os.environ["POLICY"])
session, space = policy._session, policy.spec.observation_spaces["obs"]


async def predict(request: Request) -> Response:
    """JSON in, JSON out."""
    observation = np.asarray(orjson.loads(await request.body())["observation"], np.float32)
    action = session.run(["action"], {"obs": observation[None]})[0][0]
    return Response(
        orjson.dumps({"action": action}, option=orjson.OPT_SERIALIZE_NUMPY),
        media_type="application/json",
    )


async def binary(request: Request) -> Response:
    """Raw bytes in, raw bytes out."""
    observation = np.frombuffer(await request.body(), space.dtype).reshape(1, *space.shape)
    action = session.run(["action"], {"obs": observation})[0][0]
    return Response(action.tobytes(), media_type="application/octet-stream")


async def converse(socket: WebSocket) -> None:
    """Raw bytes in, raw bytes out, frame by frame."""
    await socket.accept()
    async for data in socket.iter_bytes():
        observation = np.frombuffer(data, space.dtype).reshape(1, *space.shape)
        await socket.send_bytes(session.run(["action"], {"obs": observation})[0][0].tobytes())


uvicorn.run(
    Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/binary", binary, methods=["POST"]),
            WebSocketRoute("/ws", converse),
        ]
    ),
    host="127.0.0.1",
    port=int(os.environ["PORT"]),
    loop="uvloop",
    http="httptools",
    ws="websockets-sansio",
    access_log=False,
    log_level="error",
    ws_per_message_deflate=False,
)
