"""``WS /ws/NAME``: one observation in, one action out, for control loops.

A text frame is the body of ``POST /predict``; the reply has the same form as there. A binary
frame has the little-endian bytes of one observation; the reply has the bytes of the action. An
error is a text frame, and the connection stays open. How the bytes are read is part of the URL:

- ``?dtype=float64``: the numbers' dtype; by default the one of the observation space.
- ``?batch=true``: each frame has the bytes of one or more observations.

The state of a policy with stacked frames is kept with the connection. An episode starts with a
new connection, or with the text frame ``{"reset": true}``, which is echoed.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.messages import Message, Receive, Send
from trpo_deploy.serve.metrics import count_error, count_request
from trpo_deploy.serve.protocols.batching import INLINE_BYTES
from trpo_deploy.serve.protocols.frame_format import FrameFormat
from trpo_deploy.serve.protocols.json_io import load_object
from trpo_deploy.serve.protocols.policy_state import PolicyState
from trpo_deploy.serve.protocols.predict import Predictor, dump_reply
from trpo_deploy.serve.protocols.predict_request import PredictRequest, parse_predict_request

ENDPOINT = "/ws/NAME"
"""Label of the metrics."""

_RESET = {"reset": True}


class WebSocketConnection:
    """One WebSocket connection with the state of its episode.

    Args:
        predictor: Answers the frames.
        name: Name of the model. A replaced model is used from the next frame on.
        frames: What a binary frame contains.
    """

    def __init__(self, predictor: Predictor, name: str, frames: FrameFormat) -> None:
        self._predictor = predictor
        self._name = name
        self._frames = frames
        self._state: PolicyState | None = None

    async def run(self, receive: Receive, send: Send) -> None:
        """Accept the connection and answer frames until the client disconnects."""
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            started = perf_counter()
            try:
                reply, status = await self._answer(message), 200
            except Exception as error:
                reply, status = self._refuse(
                    RequestError.from_exception(error, "answering a frame")
                )
            await send({"type": "websocket.send", **reply})
            count_request(ENDPOINT, self._name, status, perf_counter() - started)

    def _refuse(self, error: RequestError) -> tuple[dict[str, Any], int]:
        """The frame and the status that answer a refused frame."""
        count_error(error.code, self._name)
        return {"text": error.to_json().decode()}, error.status

    async def _answer(self, message: Message) -> dict[str, Any]:
        text, data = message.get("text"), message.get("bytes")
        size = len(text or data or "")
        if size > INLINE_BYTES:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, self._answer_frame, text, data)
        return self._answer_frame(text, data)

    def _answer_frame(self, text: str | None, data: bytes | None) -> dict[str, Any]:
        return self._answer_binary(data or b"") if text is None else self._answer_text(text)

    def _answer_binary(self, data: bytes) -> dict[str, Any]:
        model = self._predictor.registry.get(self._name)
        request = PredictRequest(self._frames.read(data, model))
        action, self._state = self._predictor.act(model, request, self._state)
        return {"bytes": action.tobytes()}

    def _answer_text(self, text: str) -> dict[str, Any]:
        value = load_object(text)
        if value == _RESET:
            self._state = None
            return {"text": text}
        request = parse_predict_request(value)
        model = self._predictor.find_model(request, self._name)
        action, self._state = self._predictor.act(model, request, self._state)
        return {"text": dump_reply(model, action).decode()}
