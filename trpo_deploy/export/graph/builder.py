"""Collects the nodes and constants of an ONNX graph in the form that its opset requires."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from trpo_deploy.errors import ExportError

# Oldest opset that has an operator in the form written here. All other operators have it since
# opset 7, which introduced broadcasting.
_FORM_SINCE = {
    "Celu": 12,
    "Clip": 11,
    "Erf": 9,
    "Expand": 8,
    "Greater": 9,
    "HardSwish": 14,
    "Less": 9,
    "Max": 8,
    "Min": 8,
    "Slice": 10,
    "Where": 9,
}
_OLDEST_OPSET = 7


@dataclass
class GraphBuilder:
    """Nodes and constants in the order in which they are added.

    Internal names begin with a slash, so that they never collide with the names of inputs.
    """

    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: Any, dtype: npt.DTypeLike = np.float32) -> str:
        """Add a constant; return its name."""
        self.initializers.append(numpy_helper.from_array(np.array(value, dtype, order="C"), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; return the output's name.

        Raises:
            ExportError: The opset is too old for the operator.
        """
        since = _FORM_SINCE.get(operator, _OLDEST_OPSET)
        if self.opset < since:
            raise ExportError(
                f"opset {self.opset} is too old for this policy: {operator} needs opset {since}; "
                f"use --opset {since} or higher"
            )
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def add_once(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node that several outputs share, unless the graph already has it."""
        return output if self.has(output) else self.add(operator, inputs, output, **attributes)

    def has(self, name: str) -> bool:
        """Whether a node or a constant has this name."""
        return any(name in node.output for node in self.nodes) or any(
            name == constant.name for constant in self.initializers
        )

    def cast(self, name: str, dtype: npt.DTypeLike, output: str) -> str:
        """Convert to another dtype."""
        to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", [name], output, to=to)

    def reshape(self, name: str, shape: list[int], output: str) -> str:
        """Change the shape of a batch; ``-1`` is the batch axis."""
        return self.add(
            "Reshape", [name, self.constant(f"{output}/shape", shape, np.int64)], output
        )

    def concat(self, parts: list[str], axis: int, output: str) -> str:
        """Concatenate tensors; a single one is returned as it is."""
        return parts[0] if len(parts) == 1 else self.add("Concat", parts, output, axis=axis)

    def slice(self, name: str, axis: int, start: int, end: int, output: str) -> str:
        """Take a range along one axis."""
        ranges = [
            self.constant(f"{output}/{part}", [value], np.int64)
            for part, value in (("start", start), ("end", end), ("axis", axis))
        ]
        return self.add("Slice", [name, *ranges], output)

    def reduce(self, operator: str, name: str, axis: int, output: str, *, keep: bool) -> str:
        """Reduce one axis, which newer opsets take as an input and older ones as an attribute."""
        axes_are_input = self.opset >= (13 if operator == "ReduceSum" else 18)
        if not axes_are_input:
            return self.add(operator, [name], output, axes=[axis], keepdims=int(keep))
        axes = self.constant(f"{output}/axes", [axis], np.int64)
        return self.add(operator, [name, axes], output, keepdims=int(keep))


def newest_opset() -> int:
    """The newest opset that the installed ``onnx`` supports."""
    return int(onnx.defs.onnx_opset_version())
