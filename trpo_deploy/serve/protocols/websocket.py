"""``WS /ws/NAME``: one observation in, one action out, for control loops.

A text frame is what ``POST /predict`` takes and is answered as there. A binary frame is one
observation, or several one after another: the little-endian bytes of the space's dtype. It is
answered by those of the action. What cannot be answered gets a text frame with the error, and
the connection stays open.

What a policy remembers of an episode is kept with the connection. A new episode begins with a
new connection, or with the text frame ``{"reset": true}``, which is sent back as the answer.
"""

from __future__ import annotations

from math import prod
from time import perf_counter

import numpy as np

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.messages import Message, Receive, Send
from trpo_deploy.serve.metrics import count_error, count_request
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.frame_stack import State
from trpo_deploy.serve.protocols.predict import Call, Predictor, load_object, parse_object, to_json
from trpo_deploy.spec.spaces import DictSpace

LABEL = "/ws/NAME"

_RESET = {"reset": True}


class Conversation:
    """One WebSocket connection.

    Args:
        predictor: answers calls.
        name: of the model; a swap takes effect with the next frame.
    """

    def __init__(self, predictor: Predictor, name: str) -> None:
        self._predictor = predictor
        self._name = name
        self._state: State | None = None

    async def run(self, receive: Receive, send: Send) -> None:
        """Answer frames until the client leaves."""
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            started = perf_counter()
            try:
                answer, status = self._answer(message), 200
            except RequestError as error:
                answer, status = {"text": error.to_json().decode()}, error.status
                count_error(error.code)
            await send({"type": "websocket.send", **answer})
            count_request(LABEL, self._name, status, perf_counter() - started)

    def _answer(self, message: Message) -> dict[str, str | bytes]:
        text = message.get("text")
        if text is None:
            model = self._predictor.registry.get(self._name)
            call = Call(_observation(model, message["bytes"]))
            action, self._state = self._predictor.act(model, call, self._state)
            return {"bytes": action.tobytes()}
        value = load_object(text)
        if value == _RESET:
            self._state = None
            return {"text": text}
        call = parse_object(value)
        model = self._predictor.find(call, self._name)
        action, self._state = self._predictor.act(model, call, self._state)
        return {"text": to_json(model, action).decode()}


def _observation(model: ServedModel, data: bytes) -> object:
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
