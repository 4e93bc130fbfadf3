"""The LEAPP description of a ``policy.onnx``: a graph of one model.

Source: "Understanding the Generated Configs" of LEAPP's documentation, config version 1.3, and
``InferenceManager`` of ``leapp`` 0.7.2.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from hashlib import md5
from typing import Any

import onnx
from onnx import helper

from trpo_deploy.errors import ExportError
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.targets.leapp.semantics import (
    Semantics,
    action_semantics,
    observation_semantics,
)
from trpo_deploy.spec.policy_spec import ACTION, PolicySpec

CONFIG_VERSION = "1.3"
NODE = "policy"
"""Name of the model in the description."""
MODEL = "policy.onnx"
"""The model's file, beside the description."""

DTYPES = frozenset(
    {"bool", "float16", "float32", "float64", "int16", "int32", "int64", "int8", "uint8"}
)
"""Those that LEAPP's loader can feed and read."""


def description(file: ExportedFile) -> dict[str, Any]:
    """The description as plain values.

    Raises:
        ExportError: LEAPP has no name or dtype for an input or output.
    """
    graph, spec = file.model.graph, file.spec
    semantics = _semantics(spec)
    inputs = [_tensor(each, semantics.get(each.name, Semantics())) for each in graph.input]
    outputs = [_tensor(each, semantics.get(each.name, Semantics())) for each in graph.output]
    _check([*inputs, *outputs])
    opset = next(each.version for each in file.model.opset_import if not each.domain)
    return {
        "models": {
            NODE: {
                "inputs": inputs,
                "outputs": outputs,
                "parameters": {
                    "backend": "onnx",
                    "model_path": MODEL,
                    "md5sum": md5(file.content, usedforsecurity=False).hexdigest(),
                    "sha256sum": file.sha256,
                    "opset_version": opset,
                },
            }
        },
        "pipeline": _pipeline(spec, inputs, outputs),
        "system information": {
            "leapp config version": CONFIG_VERSION,
            **{f"{package} version": version for package, version in spec.versions.items()},
        },
    }


def differences(expected: Any, came: Any, where: str) -> Iterator[str]:
    """What a description says otherwise than it should; it may say more.

    Args:
        expected: What it should say, or a part of it.
        came: What it says.
        where: Path to that part, for messages.
    """
    if isinstance(expected, dict) and isinstance(came, dict):
        for key, value in expected.items():
            yield from differences(value, came.get(key), f"{where} > {key}")
    elif isinstance(expected, list) and isinstance(came, list) and len(came) == len(expected):
        for index, value in enumerate(expected):
            yield from differences(value, came[index], f"{where} > {index}")
    elif came != expected:
        yield f"{where} is {reprlib.repr(came)}, expected {reprlib.repr(expected)}"


def _tensor(value: onnx.ValueInfoProto, semantics: Semantics) -> dict[str, Any]:
    """An input or output of a graph, for one row: an axis without a size has size 1."""
    kind = value.type.tensor_type
    entry: dict[str, Any] = {
        "name": value.name,
        "dtype": str(helper.tensor_dtype_to_np_dtype(kind.elem_type)),
        "shape": [each.dim_value or 1 for each in kind.shape.dim],
        "type": "tensor",
    }
    if semantics.kind is not None:
        entry["kind"] = semantics.kind
    if semantics.names:
        entry["element_names"] = [[], list(semantics.names)]  # the batch axis has no names
    if semantics.units:
        entry["units"] = list(semantics.units)  # no field of LEAPP's, which allows others
    return entry


def _semantics(spec: PolicySpec) -> dict[str, Semantics]:
    """By the name of an input or output."""
    observations = observation_semantics(spec)
    inputs = {each.name: observations[each.key] for each in spec.inputs if each.key in observations}
    return {**inputs, ACTION: action_semantics(spec)}


def _pipeline(
    spec: PolicySpec, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Which tensors come from and go to the outside. Earlier frames are fed back, from zeros."""
    feedback = {state.output: state.input.name for state in spec.states}
    pipeline: dict[str, Any] = {
        "data_flow": {},
        "feedback_flow": {f"{NODE}/{out}": [f"{NODE}/{name}"] for out, name in feedback.items()},
        "inputs": {
            NODE: [each["name"] for each in inputs if each["name"] not in feedback.values()]
        },
        "outputs": {NODE: [each["name"] for each in outputs if each["name"] not in feedback]},
    }
    if spec.period is not None:
        pipeline["configs"] = {"frequency": 1 / spec.period}
    return pipeline


def _check(tensors: Iterable[dict[str, Any]]) -> None:
    for each in tensors:
        name, dtype = each["name"], each["dtype"]
        if "/" in name:
            raise ExportError(
                "LEAPP separates a model and its tensor with a slash, and the policy has the "
                f"tensor {name!r}; train with an observation key without a slash"
            )
        if dtype not in DTYPES:
            raise ExportError(
                f"LEAPP has no tensors of {dtype}, and the policy has the {dtype} tensor {name!r}; "
                f"train with one of {', '.join(sorted(DTYPES))}"
            )
