"""The service's own requests: an observation in, an action out, as JSON or as raw tensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import orjson

from trpo_deploy.errors import ObservationError
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.messages import JSON, OCTETS, Reply, Request
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.batching import Question
from trpo_deploy.serve.protocols.frame_stack import State, state_from_text, state_to_text
from trpo_deploy.serve.protocols.tensor import tensor_from_headers, tensor_to_headers
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.policy_spec import ACTION
from trpo_deploy.spec.spaces import Array

_KEYS = frozenset({"observation", "model", "version", "deterministic", "state"})


@dataclass(slots=True)
class Call:
    """What a JSON request asks for."""

    observation: object
    model: str | None = None
    version: str | None = None
    deterministic: bool = True
    state: str | None = None
    """What the last answer of the episode gave, for a policy that remembers frames."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """Answers calls with the actions of the served models."""

    registry: Registry
    settings: Settings

    def predict(self, request: Request) -> Reply | Question:
        """Answer an HTTP request: an observation as JSON, or as a raw tensor.

        Returns:
            The answer, or what is to be run for it where it may be run with others.

        Raises:
            RequestError: the request cannot be answered.
        """
        content_type = request.content_type
        if content_type == JSON:
            call = parse_call(request.body)
            model = self.find(call, request.name, request.version)
            if call.deterministic and call.state is None and not model.policy.spec.states:
                inputs, batched = model.validate(call.observation, self.settings)
                reply = partial(_reply, model, batched)
                return Question(model.policy, (ACTION,), inputs, reply)
            return self._answer(model, call)
        if content_type == OCTETS:
            return self._predict_tensor(request)
        raise RequestError(
            415,
            "unsupported_media_type",
            "send the observation as application/json or application/octet-stream",
            field="content-type",
            expected="application/json or application/octet-stream",
            received=content_type.decode("latin-1")[:100],
        )

    def answer(self, call: Call) -> Reply:
        """Answer a call.

        Raises:
            RequestError: the call cannot be answered.
        """
        return self._answer(self.find(call), call)

    def _answer(self, model: ServedModel, call: Call) -> Reply:
        action, state = self.act(model, call)
        return Reply(to_json(model, action, state), model.name)

    def find(self, call: Call, name: str | None = None, version: str | None = None) -> ServedModel:
        """The model of a call, which the URL may name instead.

        Raises:
            RequestError: there is none, or the two say different things.
        """
        return self.registry.get(
            _agreed("model", call.model, name), _agreed("version", call.version, version)
        )

    def act(
        self, model: ServedModel, call: Call, state: State | None = None
    ) -> tuple[Array, State | None]:
        """The action for one observation, or the actions for a batch, and the next state.

        Args:
            model: the model to ask.
            call: the observation, and perhaps a state.
            state: the state to go on from if the call has none.

        Raises:
            RequestError: the observation is not one that the policy takes, the state does not
                belong to it, or it cannot sample.
        """
        policy = model.policy
        if not (call.deterministic or policy.can_sample):
            raise RequestError(
                422,
                "deterministic_only",
                f"model {model.name!r} gives the deterministic action only; leave "
                '"deterministic" out or set it to true',
                field="deterministic",
                expected="true",
                received="false",
            )
        inputs, batched = model.validate(call.observation, self.settings)
        if call.state is not None:
            batch = len(next(iter(inputs.values())))
            state = state_from_text(call.state, policy.spec.states, batch)
        try:
            action, state = policy.step(inputs, state, deterministic=call.deterministic)
        except ObservationError as error:  # the state is of another batch
            raise RequestError.of_observation(error) from error
        return (action if batched else action[0, ...]), state

    def _predict_tensor(self, request: Request) -> Reply:
        model = self.registry.get(request.name, request.version)
        if len(model.policy.spec.inputs) > 1:
            raise RequestError(
                415,
                "unsupported_media_type",
                f"model {model.name!r} takes several arrays; send JSON, or the binary tensors of "
                f"/v2/models/{model.name}/infer",
                field="content-type",
                expected="application/json",
                received="application/octet-stream",
            )
        call = Call(tensor_from_headers(request.headers, request.body))
        action, _ = self.act(model, call)
        version_header = (b"x-model-version", model.version.encode())
        headers = (*tensor_to_headers(action), version_header)
        return Reply(action.tobytes(), model.name, content_type=OCTETS, headers=headers)


def parse_call(body: bytes | str) -> Call:
    """Read a JSON request.

    Raises:
        RequestError: it is no JSON, or not an object of the right keys and types.
    """
    return parse_object(load_object(body))


def parse_object(value: dict[str, Any]) -> Call:
    """Read a request out of a JSON object.

    Raises:
        RequestError: it has not the right keys and types.
    """
    if "observation" not in value:
        raise RequestError(
            422,
            "missing_key",
            'the body has no "observation"',
            field="observation",
            expected='an object such as {"observation": ...}',
            received=f"keys {sorted(value)[:8]}"[:200],
        )
    if not value.keys() <= _KEYS:
        extra = min(value.keys() - _KEYS)[:64]
        raise RequestError(
            422,
            "extra_key",
            f"the body has an unknown key {extra!r}",
            field=extra,
            expected=f"only the keys {sorted(_KEYS)}",
            received="an unknown key",
        )
    if len(value) == 1:
        return Call(value["observation"])
    return Call(
        value["observation"],
        _optional(value, "model", str, None),
        _optional(value, "version", str, None),
        _optional(value, "deterministic", bool, True),
        _optional(value, "state", str, None),
    )


def load_object(body: bytes | str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RequestError: it is no JSON, or another kind of value.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, "invalid_json", f"the body is no JSON: {error}") from error
    if type(value) is dict:
        return value
    raise RequestError(
        422,
        "wrong_type",
        "the body must be a JSON object",
        expected="an object",
        received=_kind(value),
    )


def _optional(value: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    found = value.get(key, default)
    if found is default or type(found) is kind:
        return found
    raise RequestError(
        422,
        "wrong_type",
        f'"{key}" must be {_KINDS[kind]}',
        field=key,
        expected=_KINDS[kind],
        received=_kind(found),
    )


def _agreed(key: str, in_body: str | None, in_url: str | None) -> str | None:
    """What the body or the URL says; both may, if they say the same."""
    if in_url is None or in_body == in_url:
        return in_body
    if in_body is None:
        return in_url
    raise RequestError(
        422,
        "contradiction",
        f'the URL names the {key} {in_url[:64]!r}, the body {in_body[:64]!r}; leave "{key}" out',
        field=key,
        expected=in_url[:64],
        received=in_body[:64],
    )


_KINDS = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    type(None): "null",
}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")


def _reply(model: ServedModel, batched: bool, outputs: list[Array]) -> Reply:
    action = outputs[0]
    return Reply(to_json(model, action if batched else action[0, ...]), model.name)


def to_json(model: ServedModel, action: Array, state: State | None = None) -> bytes:
    """The JSON answer."""
    text = b',"state":"' + state_to_text(state) + b'"' if state else b""
    return b'{"action":' + dump_array(action) + text + model.json_tail


def dump_array(array: Array) -> bytes:
    """An array as JSON; float32 numbers in the fewest digits that name them."""
    if array.ndim == 0:
        return orjson.dumps(array.item())
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
