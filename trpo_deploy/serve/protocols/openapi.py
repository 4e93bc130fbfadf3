"""The service described as OpenAPI 3.1, with each served model's own observation and action."""

from __future__ import annotations

from typing import Any

import numpy as np

from trpo_deploy import __version__
from trpo_deploy.serve.models.registry import Registry
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

_LONGEST_EXAMPLE = 4096
"""Numbers; beyond it an example is longer than anyone would paste."""
_FLOAT32_MAX = float(np.finfo(np.float32).max)

DOCS_PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>trpo-deploy</title>
<link rel="stylesheet" href="/static_content/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="/static_content/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "/docs.json", dom_id: "#docs", validatorUrl: null})</script>
</body>
</html>
"""


def describe_service(registry: Registry, settings: Settings) -> Json:
    """The OpenAPI document of what is served now."""
    latest = {name: slot.latest for name, slot in registry.slots.items()}
    models = {name: model for name, model in latest.items() if model is not None}
    paths: Json = {"/predict": {"post": _predict_any(models, settings)}}
    for name, model in models.items():
        paths[f"/models/{name}/predict"] = {"post": _predict_one(model, settings)}
        paths[f"/models/{name}"] = {"get": _get(f"Spec and certificate of {name}", "models")}
    paths |= _other_paths(sorted(models))
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "trpo-deploy",
            "version": __version__,
            "description": "Trained policies: a raw observation in, an action out that the "
            "environment takes. Control loops may use the WebSocket /ws/NAME, one frame each way.",
        },
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR, "ErrorV2": _ERROR_V2}},
    }
    if settings.api_key_file is not None:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


_TEXT_OR_NULL: Json = {"type": ["string", "null"]}
_ERROR: Json = {
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
_ERROR_V2: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}
_ERRORS = {
    "400": "No JSON",
    "401": "No key, or none of the service's",
    "404": "No such model or version",
    "405": "Another method is needed",
    "413": "Too large a body or batch",
    "415": "Another content type is needed",
    "422": "Not an observation that the policy takes",
    "503": "Overloaded, or the model could not be loaded",
}


def _responses(schema: Json, error_schema: str = "Error") -> Json:
    error = {"application/json": {"schema": {"$ref": f"#/components/schemas/{error_schema}"}}}
    return {
        "200": {"description": "OK", "content": {"application/json": {"schema": schema}}},
        **{status: {"description": text, "content": error} for status, text in _ERRORS.items()},
    }


def _predict_any(models: dict[str, ServedModel], settings: Settings) -> Json:
    """``POST /predict``; the model's name is needed if there are several."""
    observations = [_one_or_batch(model, settings) for model in models.values()]
    actions = [_action(model) for model in models.values()]
    required = ["observation"] if len(models) == 1 else ["observation", "model"]
    body = _body({"anyOf": observations}, required)
    body["properties"]["model"] = {"enum": sorted(models)}
    content: Json = {"application/json": {"schema": body}}
    for name, model in models.items():
        if _size(model) <= _LONGEST_EXAMPLE:
            value = {"observation": _example(model), "model": name}
            content["application/json"].setdefault("examples", {})[name] = {"value": value}
    return {
        "summary": "The action for an observation",
        "operationId": "predict",
        "requestBody": {"required": True, "content": content},
        "responses": _responses(_answer({"anyOf": actions})),
    }


def _predict_one(model: ServedModel, settings: Settings) -> Json:
    spec = model.policy.spec
    body = _body(_one_or_batch(model, settings), ["observation"])
    content: Json = {"application/json": {"schema": body}}
    if _size(model) <= _LONGEST_EXAMPLE:
        content["application/json"]["example"] = {"observation": _example(model)}
    return {
        "summary": f"The action of {model.name} ({spec.env_id or spec.algorithm})",
        "description": f"Observation: {spec.observation_space.describe()}. "
        f"Action: {spec.action_space.describe()}. {_binary_in_words(model)}",
        "operationId": f"predict_{model.name}",
        "requestBody": {"required": True, "content": content},
        "responses": _responses(_answer(_action(model))),
    }


def _binary_in_words(model: ServedModel) -> str:
    space = model.policy.spec.observation_space
    if isinstance(space, DictSpace) or model.policy.spec.states:
        return f"For raw bytes use /v2/models/{model.name}/infer."
    shape = ",".join(map(str, space.shape))
    return (
        "Also as application/octet-stream, the array's little-endian bytes, with the headers "
        f"X-Tensor-Dtype: {space.dtype} and X-Tensor-Shape: {shape} (a batch axis may come first)."
    )


def _body(observation: Json, required: list[str]) -> Json:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": {
            "observation": observation,
            "model": {"type": ["string", "null"]},
            "version": {"type": ["string", "null"], "description": "A loaded one, or latest"},
            "deterministic": {"type": "boolean", "default": True},
            "state": {
                "type": ["string", "null"],
                "description": "Of the last answer, if it had one; none begins an episode",
            },
        },
    }


def _answer(action: Json) -> Json:
    return {
        "type": "object",
        "required": ["action", "model", "version"],
        "properties": {
            "action": action,
            "model": {"type": "string"},
            "version": {"type": "string"},
            "state": {"type": "string", "description": "To send with the next observation"},
        },
    }


def _one_or_batch(model: ServedModel, settings: Settings) -> Json:
    space = model.policy.spec.observation_space
    return {"anyOf": [_observation(space), _observation(space, settings.max_batch)]}


def _observation(space: Space | DictSpace, batch: int | None = None) -> Json:
    """An observation, or with ``batch`` up to as many; of a dict, each key has them."""
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


def _action(model: ServedModel) -> Json:
    one = space_schema(model.policy.spec.action_space)
    return {"anyOf": [one, {"type": "array", "items": one}]}


def space_schema(space: Space) -> Json:
    """A space as JSON schema: nested arrays of fixed length, numbers with their bounds."""
    if isinstance(space, DiscreteSpace):
        return {"type": "integer", "minimum": space.start, "maximum": space.start + space.n - 1}
    if isinstance(space, MultiBinarySpace):
        return _nested(space.shape, {"type": "integer", "minimum": 0, "maximum": 1})
    if isinstance(space, MultiDiscreteSpace):
        low, high = space.start, space.start + space.nvec - 1
        return _nested_with_bounds("integer", low, high)
    assert isinstance(space, BoxSpace)
    kind = "number" if space.dtype.kind == "f" else "integer"
    return _nested_with_bounds(kind, space.low, space.high)


def _nested_with_bounds(kind: str, low: Array, high: Array) -> Json:
    """One schema for all numbers, with the widest of their bounds."""
    # Draft 2020's prefixItems could tell each number's own, but few tools can read it.
    bounds = {
        "minimum": max(low.min().item(), -_FLOAT32_MAX),
        "maximum": min(high.max().item(), _FLOAT32_MAX),
    }
    return _nested(low.shape, {"type": kind, **bounds})


def _nested(shape: tuple[int, ...], item: Json) -> Json:
    for size in reversed(shape):
        item = {"type": "array", "items": item, "minItems": size, "maxItems": size}
    return item


def _size(model: ServedModel) -> int:
    spaces = model.policy.spec.observation_spaces.values()
    return sum(int(np.prod(space.shape)) for space in spaces)


def _example(model: ServedModel) -> Any:
    """A legal observation, the same each time, with few digits."""
    space = model.policy.spec.observation_space
    rng = np.random.default_rng(0)
    if isinstance(space, DictSpace):
        return {key: _short_sample(item, rng) for key, item in space.spaces.items()}
    return _short_sample(space, rng)


def _short_sample(space: Space, rng: np.random.Generator) -> Any:
    sample = space.sample(rng)
    if isinstance(space, BoxSpace) and space.dtype.kind == "f":
        sample = np.clip(np.round(sample.astype(np.float64), 3), space.low, space.high)
    return sample.tolist()


def _get(summary: str, tag: str) -> Json:
    return {
        "summary": summary,
        "operationId": f"{tag}_{summary}".replace(" ", "_"),
        "responses": _responses({"type": "object"}, "ErrorV2" if tag == "v2" else "Error"),
    }


def _other_paths(names: list[str]) -> Json:
    """What does not depend on a model's spaces."""
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"enum": names} if names else {"type": "string"},
    }
    v2: Json = {
        "/v2": {"get": _get("Open Inference Protocol server", "v2")},
        "/v2/models/{name}": {"get": _get("Inputs and outputs", "v2"), "parameters": [name]},
        "/v2/models/{name}/ready": {
            "get": _get("Whether it is loaded", "v2"),
            "parameters": [name],
        },
        "/v2/models/{name}/infer": {"post": _infer(), "parameters": [name]},
    }
    return {
        "/models": {"get": _get("What is served", "models")},
        "/livez": {"get": _get("Whether the process runs", "health")},
        "/readyz": {"get": _get("Which models are ready", "health")},
        **v2,
    }


def _infer() -> Json:
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"type": "string"},
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
    }
    inputs = {"type": "array", "items": tensor}
    body = {"type": "object", "required": ["inputs"], "properties": {"inputs": inputs}}
    return {
        "summary": "Open Inference Protocol: actions for a batch of observations",
        "operationId": "v2_infer",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": _responses({"type": "object"}, "ErrorV2"),
    }
