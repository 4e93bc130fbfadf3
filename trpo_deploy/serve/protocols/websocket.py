"""``WS /ws/NAME``: one observation in, one action out, for control loops.

A text frame is the body of ``POST /predict``; the reply has the same form as there. A binary
frame has the little-endian bytes of one observation, or of several; the reply has the bytes of
the actions. An error is a text frame, and the connection stays open.

The state of a policy with stacked frames is kept with the connection. An episode starts with a
new connection, or with the text frame ``{"reset": true}``, which is echoed.
"""

from __future__ import annotations

from math import prod
from time import perf_counter

import numpy as np

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.messages import Message, Receive, Send
from trpo_deploy.serve.metrics import count_error, count_request
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.json_io import load_object
from trpo_deploy.serve.protocols.policy_state import PolicyState
from trpo_deploy.serve.protocols.predict import Predictor, dump_reply
from trpo_deploy.serve.protocols.predict_request import PredictRequest, parse_predict_request
from trpo_deploy.spec.spaces import DictSpace

ENDPOINT = "/ws/NAME"
"""Label of the metrics."""

_RESET = {"reset": True}


class WebSocketConnection:
    """One WebSocket connection with the state of its episode.

    Args:
        predictor: Answers the frames.
        name: Name of the model. A replaced model is used from the next frame on.
    """

    def __init__(self, predictor: Predictor, name: str) -> None:
        self._predictor = predictor
        self._name = name
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
                reply, status = self._answer(message), 200
            except RequestError as error:
                reply, status = {"text": error.to_json().decode()}, error.status
                count_error(error.code)
            await send({"type": "websocket.send", **reply})
            count_request(ENDPOINT, self._name, status, perf_counter() - started)

    def _answer(self, message: Message) -> dict[str, str | bytes]:
        text = message.get("text")
        if text is None:
            model = self._predictor.registry.get(self._name)
            request = PredictRequest(_read_binary(model, message["bytes"]))
            action, self._state = self._predictor.act(model, request, self._state)
            return {"bytes": action.tobytes()}
        value = load_object(text)
        if value == _RESET:
            self._state = None
            return {"text": text}
        request = parse_predict_request(value)
        model = self._predictor.find_model(request, self._name)
        action, self._state = self._predictor.act(model, request, self._state)
        return {"text": dump_reply(model, action).decode()}


def _read_binary(model: ServedModel, data: bytes) -> object:
    """The observation, or batch of observations, of a binary frame."""
    space = model.policy.spec.observation_space
    if isinstance(space, DictSpace):
        raise RequestError(
            422, "wrong_type", f"model {model.name!r} takes several arrays; send them as JSON"
        )
    row = space.dtype.itemsize * prod(space.shape)
    if not data or len(data) % row:
        raise RequestError(
            422,
            "wrong_size",
            f"an observation has {row} bytes ({space.describe()}), received {len(data)}",
            field="frame",
            expected=f"{row} bytes, or a multiple for a batch",
            received=f"{len(data)} bytes",
        )
    array = np.frombuffer(data, space.dtype.newbyteorder("<"))
    return array.reshape(space.shape if len(data) == row else (-1, *space.shape))
