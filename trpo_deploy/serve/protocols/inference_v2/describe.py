"""What the protocol says about the service and its models, as plain values for HTTP and gRPC."""

from __future__ import annotations

import numpy as np

from trpo_deploy import __version__
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.protocols.inference_v2.datatypes import DATATYPE_OF
from trpo_deploy.spec.policy_spec import TensorSpec
from trpo_deploy.spec.spaces import Json

SERVER: Json = {
    "name": "trpo-deploy",
    "version": __version__,
    "extensions": ["binary_tensor_data"],
}


def describe_index(registry: Registry) -> list[Json]:
    """The models and their states."""
    entries = registry.entries.items()
    rows: list[Json] = [
        {"name": name, "version": version, "state": "READY", "reason": entry.error or ""}
        for name, entry in entries
        for version in entry.versions
    ]
    rows += [
        {"name": name, "version": "", "state": "UNAVAILABLE", "reason": entry.error or ""}
        for name, entry in entries
        if not entry.versions
    ]
    return rows


def describe_model(registry: Registry, name: str | None, version: str | None) -> Json:
    """Inputs and outputs of a model.

    Raises:
        RequestError: The model does not exist or is not loaded.
    """
    model = registry.get(name, version)
    spec = model.policy.spec
    return {
        "name": model.name,
        "versions": list(registry.entries[model.name].versions),
        "platform": "onnxruntime_onnx",
        "inputs": [_describe(tensor) for tensor in spec.inputs],
        "outputs": [_describe(tensor) for tensor in spec.outputs],
    }


def _describe(tensor: TensorSpec) -> Json:
    datatype = DATATYPE_OF[np.dtype(tensor.dtype)]
    return {"name": tensor.name, "datatype": datatype, "shape": [-1, *tensor.shape]}
