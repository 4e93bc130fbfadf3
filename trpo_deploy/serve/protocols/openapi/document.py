"""The OpenAPI document of the models that are served now."""

from __future__ import annotations

import numpy as np

from trpo_deploy import __version__
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.protocols.inference_v2.datatypes import DATATYPE_OF
from trpo_deploy.serve.protocols.openapi.examples import example_observation
from trpo_deploy.serve.protocols.openapi.schemas import (
    ERROR,
    ERROR_V2,
    action_schema,
    predict_body,
    predict_reply,
    responses,
)
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.spaces import DictSpace, Json

_V2 = "ErrorV2"
"""Schema of the errors under ``/v2``."""


def describe_service(registry: Registry, settings: Settings) -> Json:
    """The OpenAPI document."""
    latest = {name: entry.latest for name, entry in registry.entries.items()}
    models = {name: model for name, model in latest.items() if model is not None}
    paths: Json = {"/predict": {"post": _predict_any(models, settings)}}
    for name, model in models.items():
        paths[f"/models/{name}/predict"] = {"post": _predict_one(model, settings)}
        paths[f"/models/{name}"] = {"get": _get(f"model_{name}", f"Spec and certificate of {name}")}
        paths[f"/v2/models/{name}/infer"] = {"post": _infer(model)}
    paths |= _paths_without_spaces(sorted(models))
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "trpo-deploy",
            "version": __version__,
            "description": "Trained policies: raw observation in, action for the environment out. "
            "For control loops use the WebSocket /ws/NAME, one frame in each direction.",
        },
        "paths": paths,
        "components": {"schemas": {"Error": ERROR, _V2: ERROR_V2}},
    }
    if settings.api_key_file is not None:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _predict_any(models: dict[str, ServedModel], settings: Settings) -> Json:
    """``POST /predict``; ``model`` is required if several models are served."""
    bodies = [predict_body(model, settings, named=len(models) > 1) for model in models.values()]
    actions = [action_schema(model) for model in models.values()]
    body = {"anyOf": bodies}
    content: Json = {"application/json": {"schema": body}}
    for name, model in models.items():
        example = example_observation(model)
        if example is not None:
            value = {"observation": example, "model": name}
            content["application/json"].setdefault("examples", {})[name] = {"value": value}
    return {
        "summary": "Action for an observation",
        "operationId": "predict",
        "requestBody": {"required": True, "content": content},
        "responses": responses(predict_reply({"anyOf": actions})),
    }


def _predict_one(model: ServedModel, settings: Settings) -> Json:
    spec = model.policy.spec
    body = predict_body(model, settings, named=False)
    content: Json = {"application/json": {"schema": body}}
    example = example_observation(model)
    if example is not None:
        content["application/json"]["example"] = {"observation": example}
    return {
        "summary": f"Action of {model.name} ({spec.env_id or spec.algorithm})",
        "description": f"Observation: {spec.observation_space.describe()}. "
        f"Action: {spec.action_space.describe()}. {_binary_hint(model)}",
        "operationId": f"predict_{model.name}",
        "requestBody": {"required": True, "content": content},
        "responses": responses(predict_reply(action_schema(model))),
    }


def _binary_hint(model: ServedModel) -> str:
    space = model.policy.spec.observation_space
    if isinstance(space, DictSpace) or model.policy.spec.states:
        return f"For raw bytes use /v2/models/{model.name}/infer."
    shape = ",".join(map(str, space.shape))
    return (
        "Also accepts application/octet-stream: the array's little-endian bytes, with the headers "
        f"X-Tensor-Dtype: {space.dtype} and X-Tensor-Shape: {shape} (optionally with a batch axis "
        "first)."
    )


def _paths_without_spaces(names: list[str]) -> Json:
    """The paths that do not depend on a model's spaces."""
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"enum": names} if names else {"type": "string"},
    }
    v2: Json = {
        "/v2": {"get": _open(_get("v2_server", "Open Inference Protocol server", _V2))},
        "/v2/models/{name}": {
            "get": _get("v2_metadata", "Inputs and outputs", _V2),
            "parameters": [name],
        },
        "/v2/models/{name}/ready": {
            "get": _get("v2_ready", "Whether the model is loaded", _V2),
            "parameters": [name],
        },
    }
    return {
        "/models": {"get": _get("models", "List of models")},
        "/livez": {"get": _open(_get("livez", "Whether the process is running"))},
        "/readyz": {"get": _open(_get("readyz", "Whether models are ready"))},
        **v2,
    }


def _get(operation_id: str, summary: str, error_schema: str = "Error") -> Json:
    return {
        "summary": summary,
        "operationId": operation_id,
        "responses": responses({"type": "object"}, error_schema),
    }


def _open(operation: Json) -> Json:
    """An operation that needs no key."""
    return {**operation, "security": []}


def _infer(model: ServedModel) -> Json:
    """``POST /v2/models/NAME/infer`` with JSON. No schema can relate ``shape`` to ``data``."""
    spec = model.policy.spec
    inputs = [
        {
            **_object(
                name={"const": tensor.name},
                shape=_array({"type": "integer", "minimum": 1}, 1 + len(tensor.shape)),
                datatype={"const": DATATYPE_OF[np.dtype(tensor.dtype)]},
                data={"type": "array", "minItems": 1},
            ),
            "required": ["name", "shape", "datatype", "data"],
        }
        for tensor in spec.inputs
    ]
    output = {
        **_object(
            name={"enum": [tensor.name for tensor in spec.outputs]},
            parameters=_object(binary_data={"type": "boolean"}),
        ),
        "required": ["name"],
    }
    body = {
        **_object(
            id={"type": ["string", "null"]},
            model_name={"const": model.name},
            parameters=_object(binary_data_output={"type": "boolean"}),
            inputs=_array({"anyOf": inputs}, len(inputs)),
            outputs={"type": "array", "items": output, "minItems": 1},
        ),
        "required": ["inputs"],
    }
    return {
        "summary": f"Open Inference Protocol: actions of {model.name} for a batch of observations",
        "operationId": f"v2_infer_{model.name}",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": responses({"type": "object"}, _V2),
    }


def _object(**properties: Json) -> Json:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _array(item: Json, size: int) -> Json:
    return {"type": "array", "items": item, "minItems": size, "maxItems": size}
