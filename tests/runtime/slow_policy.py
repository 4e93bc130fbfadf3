"""A policy that takes minutes for some observations and passes every check before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.runtime.policy_files import write_policy

FAST = [1.0, 2.0, 3.0, 4.0]
SLOW = [1000.0, 2.0, 3.0, 4.0]
"""The first number selects the size of a tensor that hundreds of operators work on."""
_OPERATORS = 400


def write_slow_policy(path: Path) -> Path:
    """Write a policy of four numbers, without control flow."""
    model = onnx.load(str(write_policy(path)))
    constants = {
        "scale": np.float32(1e-3),
        "numbers": np.float32(1e7),
        "least": np.float32(1),  # onnxruntime 1.15 does not sum an empty tensor
        "one": np.array([1], np.int64),
        "zero": np.float32(0),
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    half = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.5])
    nodes = [
        helper.make_node("ReduceMax", ["obs"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "scale"], ["scaled"]),
        helper.make_node("Floor", ["scaled"], ["whole"]),
        helper.make_node("Mul", ["whole", "numbers"], ["many"]),
        helper.make_node("Max", ["many", "least"], ["size"]),
        helper.make_node("Cast", ["size"], ["integer"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["integer", "one"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["big0"], value=half),
        *(
            helper.make_node("Sin", [f"big{i}"], [f"big{i + 1}"], name=f"sin{i}")
            for i in range(_OPERATORS)
        ),
        helper.make_node("ReduceSum", [f"big{_OPERATORS}"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["obs", "nothing"], ["same"]),
    ]
    policy = [*model.graph.node]
    for node in policy:
        node.input[:] = ["same" if name == "obs" else name for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *policy])
    onnx.save(model, str(path))
    return path
