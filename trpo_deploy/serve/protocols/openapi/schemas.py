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
    dtype_limits,
)

_TEXT_OR_NULL: Json = {"type": ["string", "null"]}

_FLAG: Json = {"type": ["boolean", "integer"], "minimum": 0, "maximum": 1}

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


def predict_body(model: ServedModel, settings: Settings, *, named: bool) -> Json:
    """The body of a predict request.

    Args:
        model: The model that answers.
        settings: Limits.
        named: Whether the body must name the model.
    """
    samples, stacks = model.policy.can_sample, bool(model.policy.spec.states)
    state = "State of the previous reply; leave it out to start an episode"
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["observation", "model"] if named else ["observation"],
        "properties": {
            "observation": one_or_batch(model, settings),
            "model": {"enum": [model.name] if named else [model.name, None]},
            "version": {"type": ["string", "null"], "description": "A loaded version, or latest"},
            "deterministic": {"enum": [True, False] if samples else [True], "default": True},
            "state": {**_TEXT_OR_NULL, "description": state} if stacks else {"type": "null"},
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
    bounded = settings.out_of_bounds == "refuse"
    batch = settings.max_batch
    return {"anyOf": [_observation(space, bounded), _observation(space, bounded, batch)]}


def action_schema(model: ServedModel) -> Json:
    """One action of a model, or a batch."""
    one = space_schema(model.policy.spec.action_space)
    return {"anyOf": [one, {"type": "array", "items": one}]}


def space_schema(space: Space, *, bounded: bool = True) -> Json:
    """A space as nested arrays of fixed length.

    Args:
        space: The space.
        bounded: Whether the bounds of a Box are limits.
    """
    if isinstance(space, DiscreteSpace):
        return {"type": "integer", "minimum": space.start, "maximum": space.start + space.n - 1}
    if isinstance(space, MultiBinarySpace):
        return _nested(space.shape, _FLAG)
    if isinstance(space, MultiDiscreteSpace):
        return _nested_with_bounds("integer", space.start, space.start + space.nvec - 1)
    assert isinstance(space, BoxSpace)
    if space.dtype.kind == "b":
        return _nested(space.shape, _FLAG)
    kind = "number" if space.dtype.kind == "f" else "integer"
    smallest, largest = dtype_limits(space.dtype)
    low, high = space.low, space.high
    if not bounded:
        low, high = np.full_like(low, smallest), np.full_like(high, largest)
    elif space.dtype.kind == "f":
        low, high = np.maximum(low, smallest), np.minimum(high, largest)
    if space.dtype == np.float32:
        high = _largest_that_rounds_to(high)
        low = -_largest_that_rounds_to(-low)
    return _nested_with_bounds(kind, low, high)


def _largest_that_rounds_to(bounds: Array) -> Array:
    """The largest float64 numbers that become the bounds as float32; larger ones are refused."""
    bounds = bounds.astype(np.float32)
    with np.errstate(over="ignore"):
        above = np.nextafter(bounds, np.float32(np.inf)).astype(float)
        # Above the largest float32, rounding continues as if there were one more.
        above = np.where(np.isinf(above), 2.0**128, above)
        middle = (bounds + above) / 2
        rounds_up = middle.astype(np.float32) > bounds
        return np.asarray(np.where(rounds_up, np.nextafter(middle, -np.inf), middle))


def _observation(space: Space | DictSpace, bounded: bool, batch: int | None = None) -> Json:
    """One observation, or up to ``batch`` of them; a dict has the batch in each key."""
    if not isinstance(space, DictSpace):
        one = space_schema(space, bounded=bounded)
        if batch is None:
            return one
        return {"type": "array", "items": one, "minItems": 1, "maxItems": batch}
    properties = {key: _observation(item, bounded, batch) for key, item in space.spaces.items()}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _nested_with_bounds(kind: str, low: Array, high: Array) -> Json:
    """All numbers share the widest bounds; few tools support ``prefixItems``."""
    bounds = {"minimum": low.min().item(), "maximum": high.max().item()}
    return _nested(low.shape, {"type": kind, **bounds})


def _nested(shape: tuple[int, ...], item: Json) -> Json:
    for size in reversed(shape):
        item = {"type": "array", "items": item, "minItems": size, "maxItems": size}
    return item
