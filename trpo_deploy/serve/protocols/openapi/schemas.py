"""JSON schemas of spaces, requests, replies and errors."""

from __future__ import annotations

import numpy as np

from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.spaces import (
    Array,
    BoxSpace,
    DictSpace,
    DiscreteSpace,
    Json,
    MultiBinarySpace,
    MultiDiscreteSpace,
    Space,
)

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_TEXT_OR_NULL: Json = {"type": ["string", "null"]}

ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "field", "expected", "received"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                **dict.fromkeys(("field", "expected", "received"), _TEXT_OR_NULL),
            },
        }
    },
}
ERROR_V2: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}
_ERROR_STATUSES = {
    "400": "Invalid JSON",
    "401": "Missing or unknown API key",
    "404": "Unknown model or version",
    "405": "Method not allowed",
    "413": "Body or batch too large",
    "415": "Unsupported content type",
    "422": "The policy does not accept the observation",
    "503": "Overloaded, or the model could not be loaded",
}


def responses(schema: Json, error_schema: str = "Error") -> Json:
    """The responses of an operation: 200 with a schema, and all errors."""
    error = {"application/json": {"schema": {"$ref": f"#/components/schemas/{error_schema}"}}}
    errors = {
        status: {"description": text, "content": error} for status, text in _ERROR_STATUSES.items()
    }
    return {
        "200": {"description": "OK", "content": {"application/json": {"schema": schema}}},
        **errors,
    }


def predict_body(observation: Json, required: list[str]) -> Json:
    """The body of a predict request."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": {
            "observation": observation,
            "model": {"type": ["string", "null"]},
            "version": {"type": ["string", "null"], "description": "A loaded version, or latest"},
            "deterministic": {"type": "boolean", "default": True},
            "state": {
                "type": ["string", "null"],
                "description": "State of the previous reply; leave it out to start an episode",
            },
        },
    }


def predict_reply(action: Json) -> Json:
    """The reply to a predict request."""
    return {
        "type": "object",
        "required": ["action", "model", "version"],
        "properties": {
            "action": action,
            "model": {"type": "string"},
            "version": {"type": "string"},
            "state": {"type": "string", "description": "Send it with the next observation"},
        },
    }


def one_or_batch(model: ServedModel, settings: Settings) -> Json:
    """One observation of a model, or a batch."""
    space = model.policy.spec.observation_space
    return {"anyOf": [_observation(space), _observation(space, settings.max_batch)]}


def action_schema(model: ServedModel) -> Json:
    """One action of a model, or a batch."""
    one = space_schema(model.policy.spec.action_space)
    return {"anyOf": [one, {"type": "array", "items": one}]}


def space_schema(space: Space) -> Json:
    """A space as nested arrays of fixed length, with bounded numbers."""
    if isinstance(space, DiscreteSpace):
        return {"type": "integer", "minimum": space.start, "maximum": space.start + space.n - 1}
    if isinstance(space, MultiBinarySpace):
        return _nested(space.shape, {"type": "integer", "minimum": 0, "maximum": 1})
    if isinstance(space, MultiDiscreteSpace):
        low, high = space.start, space.start + space.nvec - 1
        return _nested_with_bounds("integer", low, high)
    assert isinstance(space, BoxSpace)
    if space.dtype.kind == "b":
        return _nested(space.shape, {"type": ["boolean", "integer"], "minimum": 0, "maximum": 1})
    kind = "number" if space.dtype.kind == "f" else "integer"
    return _nested_with_bounds(kind, space.low, space.high)


def _observation(space: Space | DictSpace, batch: int | None = None) -> Json:
    """One observation, or up to ``batch`` of them; a dict has the batch in each key."""
    if not isinstance(space, DictSpace):
        one = space_schema(space)
        return one if batch is None else {"type": "array", "items": one, "maxItems": batch}
    properties = {key: _observation(item, batch) for key, item in space.spaces.items()}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _nested_with_bounds(kind: str, low: Array, high: Array) -> Json:
    """All numbers share the widest bounds; few tools support ``prefixItems``."""
    bounds = {
        "minimum": max(low.min().item(), -_FLOAT32_MAX),
        "maximum": min(high.max().item(), _FLOAT32_MAX),
    }
    return _nested(low.shape, {"type": kind, **bounds})


def _nested(shape: tuple[int, ...], item: Json) -> Json:
    for size in reversed(shape):
        item = {"type": "array", "items": item, "minItems": size, "maxItems": size}
    return item
