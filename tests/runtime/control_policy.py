"""Linear policies with names, for the tests of control loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.runtime.policy_files import make_spec
from trpo_deploy.spec.components import Component
from trpo_deploy.spec.policy_spec import ACTION, METADATA_KEY, OBS, NormalizerInfo
from trpo_deploy.spec.spaces import BoxSpace


def numbers(values: Sequence[Any], dtype: str = "float32") -> np.ndarray[Any, Any]:
    return np.array([float(value) for value in values], dtype)


def write_linear_policy(path: Path, table: dict[str, Any], **changes: Any) -> Path:
    """Write ``action = clip(observation @ weights, low, high)``.

    Args:
        path: File to write.
        table: The ``policy`` of the table of cases.
        changes: Of the spec.
    """
    low, high = numbers(table["action_low"]), numbers(table["action_high"])
    bounds = BoxSpace(numbers(table["observation_low"]), numbers(table["observation_high"]))
    mean, std = (numbers(table[f"observation_{name}"], "float64") for name in ("mean", "std"))
    settings: dict[str, Any] = {
        "observation_components": {OBS: _components(table["observation_names"])},
        "action_components": _components(table["action_names"]),
        "period": table["period"],
        "safe_action": numbers(table["safe_action"]),
        **changes,
    }
    info = NormalizerInfo(10.0, 1e-8, (OBS,), float(std.min()), {OBS: mean}, {OBS: std})
    spec = make_spec(bounds, BoxSpace(low, high), **settings)
    spec = replace(spec, normalizer=info)
    constants = {"weights": np.array(table["weights"], np.float32), "low": low, "high": high}
    nodes = [
        helper.make_node("MatMul", [OBS, "weights"], ["linear"]),
        helper.make_node("Max", ["linear", "low"], ["raised"]),
        helper.make_node("Min", ["raised", "high"], [ACTION]),
    ]
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info(OBS, TensorProto.FLOAT, ["batch", *spec.inputs[0].shape])],
        [helper.make_tensor_value_info(ACTION, TensorProto.FLOAT, ["batch", len(low)])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, path)
    return path


def _components(names: Sequence[str]) -> tuple[Component, ...]:
    return tuple(Component(name, "1") for name in names)
