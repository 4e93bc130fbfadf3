"""Requests as Triton's client makes them, whose messages are generated from the published proto."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype

from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.spaces import Array

SERVICE = "/inference.GRPCInferenceService"
MESSAGES: Any = service_pb2
LISTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


def batch_of(policy: OnnxPolicy, rows: int) -> dict[str, Array]:
    """ONNX inputs for a batch of valid observations."""
    rng = np.random.default_rng(5)
    singles = [policy.spec.validate(policy.spec.sample_observation(rng))[0] for _ in range(rows)]
    return {name: np.concatenate([row[name] for row in singles]) for name in singles[0]}


def triton_inputs(arrays: Mapping[str, Array]) -> list[Any]:
    """Raw tensors, which are all that Triton's client sends."""
    inputs = []
    for name, array in arrays.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return inputs


def infer_request(model: str, arrays: Mapping[str, Array], *, raw: bool = True) -> Any:
    """A request as a message, with raw tensors or lists of numbers."""
    request = MESSAGES.ModelInferRequest(model_name=model)
    for name, array in arrays.items():
        datatype = np_to_triton_dtype(array.dtype)
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            request.raw_input_contents.append(array.tobytes())
        else:
            getattr(tensor.contents, LISTS[datatype]).extend(array.ravel().tolist())
    return request


def box_request(model: str = "box", rows: int = 1, **changes: Any) -> Any:
    """A valid request for a policy of four numbers, with one part of its input changed."""
    request = infer_request(model, {"obs": np.ones((rows, 4), np.float32)})
    for name, value in changes.items():
        field = getattr(request.inputs[0], name)
        if isinstance(value, (str, int)):
            setattr(request.inputs[0], name, value)
        else:
            del field[:]
            field.extend(value)
    return request
