"""Read a finished ``policy.onnx`` as a :class:`~trpo_deploy.export.targets.program.Program`.

Needs ``onnx`` and NumPy only. The operators are those that the exporter writes for the policies of
Stable-Baselines3; a traced features extractor may use them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from trpo_deploy.errors import ExportError
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.graph.guard import UNGUARDED_ACTION, finite_input
from trpo_deploy.export.targets.fuse import fuse
from trpo_deploy.export.targets.program import (
    ArgMax,
    Concat,
    Conv,
    Dense,
    Gather,
    Map,
    Operand,
    Operation,
    Pool,
    Program,
    Reshape,
    Slice,
    Softmax,
    Step,
    Tensor,
    Transpose,
)
from trpo_deploy.spec.policy_spec import ACTION
from trpo_deploy.spec.spaces import Array

_WITHOUT_ATTRIBUTES = (
    *("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"),
    *("Abs", "Neg", "Sqrt", "Reciprocal", "Exp", "Log", "Erf"),
    *("Tanh", "Sigmoid", "Softplus", "Softsign", "Relu", "HardSwish"),
    *("Equal", "Greater", "Less", "Where", "Cast"),
)
FUNCTIONS: Mapping[str, Mapping[str, float]] = {
    **{name: {} for name in _WITHOUT_ATTRIBUTES},
    "Elu": {"alpha": 1.0},
    "Celu": {"alpha": 1.0},
    "LeakyRelu": {"alpha": 0.01},
    "Selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
}
"""Element-wise operators, with the defaults of their attributes. Clip becomes Max and Min."""

_COMPARISONS = ("Equal", "Greater", "Less")


def read_program(file: ExportedFile) -> Program:
    """Read the steps from the raw observation to the action.

    Other outputs, such as the value, are left out.

    Raises:
        ExportError: The graph has an operator, or a form of it, that no step can hold.
    """
    spec, graph = file.spec, file.model.graph
    reader = _Reader({each.name: numpy_helper.to_array(each) for each in graph.initializer})
    inputs = {
        each.key: reader.add_input(each.name, np.dtype(each.dtype), each.shape)
        for each in spec.inputs
    }
    action = ACTION
    if spec.guard is not None:
        action = UNGUARDED_ACTION
        for key, tensor in inputs.items():
            reader.values[finite_input(key)] = tensor
    states = {state.input.name: state.output for state in spec.states}
    reader.read(needed_nodes(graph, {action, *states.values()}, set(reader.values)))
    if action not in reader.values:
        raise ExportError("the file is of an older version; export the policy again")
    following = {name: reader.tensor(output) for name, output in states.items()}
    result = reader.shaped(reader.tensor(action), spec.action_space.shape)
    results = (result, *following.values())
    return Program(spec, inputs, fuse(reader.steps, results), result, following)


def needed_nodes(
    graph: onnx.GraphProto, outputs: set[str], known: set[str]
) -> list[onnx.NodeProto]:
    """The nodes that outputs depend on, beyond tensors that are known; in order."""
    wanted, nodes = set(outputs), []
    for node in reversed(graph.node):
        if (wanted & set(node.output)) - known:
            wanted |= set(node.input)
            nodes.append(node)
    return nodes[::-1]


class _Reader:
    """Turns nodes into steps, one after another."""

    def __init__(self, constants: Mapping[str, Array]) -> None:
        self.values: dict[str, Tensor | Array] = dict(constants)
        self.steps: list[Step] = []

    def add_input(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Tensor:
        """Add an input of the file."""
        tensor = Tensor(name, dtype, shape)
        self.values[name] = tensor
        return tensor

    def read(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Add the steps of all nodes.

        Raises:
            ExportError: No step can hold a node.
        """
        for node in nodes:
            attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            try:
                if node.domain not in ("", "ai.onnx"):
                    raise _Unsupported
                if node.op_type in FUNCTIONS:
                    self._add_function(node, attributes)
                else:
                    add = _NODES.get(node.op_type)
                    if add is None:
                        raise _Unsupported
                    add(self, node, attributes)
            except _Unsupported as error:
                detail = f" {error}" if str(error) else ""
                raise ExportError(
                    f"this target cannot hold the policy: its graph has the operator "
                    f"{node.op_type}{detail}, which no policy of Stable-Baselines3 itself needs; "
                    "export it with --target onnx, or write the features extractor with simpler "
                    "operations"
                ) from error

    def _value(self, name: str) -> Tensor | Array:
        if name not in self.values:
            raise _Unsupported(f"whose input {name!r} is missing")
        return self.values[name]

    def tensor(self, name: str) -> Tensor:
        """A tensor by its name in the graph."""
        value = self._value(name)
        if not isinstance(value, Tensor):
            raise _Unsupported("on a constant")
        return value

    def constant(self, name: str) -> Array:
        """A constant by its name in the graph."""
        value = self._value(name)
        if isinstance(value, Tensor):
            raise _Unsupported("with a computed operand")
        return value

    def shaped(self, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A tensor's elements under another shape."""
        if tensor.shape == shape:
            return tensor
        name = f"{tensor.name}:{shape}"
        output = self.values.get(name)
        if not isinstance(output, Tensor):
            output = Tensor(name, tensor.dtype, shape)
            self.steps.append(Reshape(output, tensor))
            self.values[name] = output
        return output

    def add(self, node: onnx.NodeProto, step: Step) -> None:
        """Add the step that computes a node's only output."""
        self.steps.append(step)
        self.values[node.output[0]] = step.output

    def _add_function(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
        defaults = FUNCTIONS[node.op_type]
        parameters = tuple(float(attributes.get(name, value)) for name, value in defaults.items())
        operands = self._operands(node.input)
        if node.op_type == "Cast":
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(attributes["to"]))
        elif node.op_type in _COMPARISONS:
            dtype = np.dtype(np.bool_)
        else:
            dtype = _dtype(operands[-1])
        self.add_map(node.output[0], node.op_type, operands, dtype, parameters)

    def add_map(
        self,
        name: str,
        function: str,
        operands: tuple[Operand, ...],
        dtype: np.dtype[Any],
        parameters: tuple[float, ...] = (),
    ) -> Tensor:
        """Add one function of each element."""
        shapes = [each.shape for each in operands if isinstance(each, (Tensor, np.ndarray))]
        output = Tensor(name, dtype, np.broadcast_shapes(*shapes))
        self.steps.append(Map(output, (Operation(function, operands, dtype, parameters),)))
        self.values[name] = output
        return output

    def _operands(self, names: Sequence[str]) -> tuple[Operand, ...]:
        """Operands of one row, without the batch axis."""
        values = [self._value(name) for name in names]
        ranks = {len(each.shape) for each in values if isinstance(each, Tensor)}
        if len(ranks) != 1:
            raise _Unsupported("on tensors of different rank" if ranks else "on constants")
        (rank,) = ranks
        return tuple(
            each if isinstance(each, Tensor) else _without_batch(each, rank) for each in values
        )


class _Unsupported(Exception):  # noqa: N818 - caught in this module
    """No step can hold a node; the text says why."""


def _without_batch(constant: Array, rank: int) -> Array:
    """A constant operand of a tensor that has ``rank`` axes beside the batch."""
    if constant.ndim <= rank:
        return constant
    if constant.ndim > rank + 1 or len(constant) != 1:
        raise _Unsupported("with a constant for each row of a batch")
    return np.asarray(constant[0])


def _dtype(operand: Operand) -> np.dtype[Any]:
    assert isinstance(operand, (Tensor, np.ndarray))
    return operand.dtype


def _axis(value: int, tensor: Tensor) -> int:
    """An axis of a batch as an axis of one row."""
    rank = len(tensor.shape)
    axis = value if value < 0 else value - 1
    if value == 0 or not -rank <= axis < rank:
        raise _Unsupported("along the batch axis")
    return axis % rank


def _identity(reader: _Reader, node: onnx.NodeProto, _: Mapping[str, Any]) -> None:
    reader.values[node.output[0]] = reader.tensor(node.input[0])


def _constant(reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    if "value" not in attributes:
        raise _Unsupported("without a tensor")
    reader.values[node.output[0]] = numpy_helper.to_array(attributes["value"])


def _clip(reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    """Max and Min; an infinite bound is left out."""
    tensor = reader.tensor(node.input[0])
    bounds = [
        float(reader.constant(node.input[index]))
        if len(node.input) > index and node.input[index]
        else float(attributes.get(name, default))
        for index, name, default in ((1, "min", -np.inf), (2, "max", np.inf))
    ]
    for function, bound in zip(("Max", "Min"), bounds, strict=True):
        if np.isfinite(bound):
            operands: tuple[Operand, ...] = (tensor, np.asarray(bound, tensor.dtype))
            name = f"{node.output[0]}:{function}"
            tensor = reader.add_map(name, function, operands, tensor.dtype)
    reader.values[node.output[0]] = tensor


def _batch_normalization(
    reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]
) -> None:
    tensor, name = reader.tensor(node.input[0]), node.output[0]
    column = (-1, *(1,) * (len(tensor.shape) - 1))
    scale, bias, mean, var = (reader.constant(each).reshape(column) for each in node.input[1:])
    factor = scale / np.sqrt(var + np.float32(attributes.get("epsilon", 1e-5)))
    for function, constant in (("Sub", mean), ("Mul", factor), ("Add", bias)):
        operands: tuple[Operand, ...] = (tensor, np.asarray(constant, np.float32))
        tensor = reader.add_map(f"{name}:{function}", function, operands, tensor.dtype)
    reader.values[name] = tensor


def _gemm(reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    tensor, weight = reader.tensor(node.input[0]), reader.constant(node.input[1])
    factors = (attributes.get("alpha", 1.0), attributes.get("beta", 1.0))
    if attributes.get("transA", 0) or factors != (1.0, 1.0) or len(tensor.shape) != 1:
        raise _Unsupported("with factors or a transposed input")
    weight = weight.T if attributes.get("transB", 0) else weight
    bias = reader.constant(node.input[2]) if len(node.input) > 2 else np.zeros(1)
    _add_dense(reader, node, tensor, weight, bias)


def _mat_mul(reader: _Reader, node: onnx.NodeProto, _: Mapping[str, Any]) -> None:
    tensor, weight = reader.tensor(node.input[0]), reader.constant(node.input[1])
    if len(tensor.shape) != 1 or weight.ndim != 2:
        raise _Unsupported("of more than a row and a matrix")
    _add_dense(reader, node, tensor, weight, np.zeros(1))


def _add_dense(
    reader: _Reader, node: onnx.NodeProto, tensor: Tensor, weight: Array, bias: Array
) -> None:
    outputs = weight.shape[1]
    bias = np.broadcast_to(bias.reshape(-1), (outputs,)).astype(np.float32)
    output = Tensor(node.output[0], tensor.dtype, (outputs,))
    reader.add(node, Dense(output, tensor, np.ascontiguousarray(weight, np.float32), bias))


def _conv(reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    tensor, weight = reader.tensor(node.input[0]), reader.constant(node.input[1])
    pads, stride, dilation = _window(tensor, attributes)
    bias = reader.constant(node.input[2]) if len(node.input) > 2 else np.zeros(1)
    bias = np.broadcast_to(bias, weight.shape[:1]).astype(np.float32)
    size = [
        (tensor.shape[1 + i] + pads[i] + pads[2 + i] - dilation[i] * (weight.shape[2 + i] - 1) - 1)
        // stride[i]
        + 1
        for i in (0, 1)
    ]
    output = Tensor(node.output[0], tensor.dtype, (weight.shape[0], *size))
    groups, padding = int(attributes.get("group", 1)), (pads[0], pads[1])
    reader.add(node, Conv(output, tensor, weight, bias, stride, padding, dilation, groups))


def _pool(reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    tensor = reader.tensor(node.input[0])
    if "Global" in node.op_type:
        attributes = {"kernel_shape": tensor.shape[1:]}
    pads, stride, dilation = _window(tensor, attributes)
    if any(pads) or dilation != (1, 1) or attributes.get("ceil_mode", 0) or len(node.output) > 1:
        raise _Unsupported("with padding, dilation or indices")
    kernel = _pair(attributes["kernel_shape"])
    size = [(tensor.shape[1 + i] - kernel[i]) // stride[i] + 1 for i in (0, 1)]
    output = Tensor(node.output[0], tensor.dtype, (tensor.shape[0], *size))
    function = "max" if "Max" in node.op_type else "mean"
    reader.add(node, Pool(output, tensor, function, kernel, stride))


def _window(
    tensor: Tensor, attributes: Mapping[str, Any]
) -> tuple[tuple[int, ...], tuple[int, int], tuple[int, int]]:
    """Padding (top, left, bottom, right), stride and dilation of a two-dimensional window."""
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or len(tensor.shape) != 3:
        raise _Unsupported("with automatic padding, or not in two dimensions")
    pads = tuple(int(each) for each in attributes.get("pads", (0, 0, 0, 0)))
    stride, dilation = (_pair(attributes.get(name, (1, 1))) for name in ("strides", "dilations"))
    return pads, stride, dilation


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def _flatten(reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    tensor = reader.tensor(node.input[0])
    if attributes.get("axis", 1) != 1:
        raise _Unsupported("from another axis than the first")
    reader.values[node.output[0]] = reader.shaped(tensor, (tensor.size,))


def _reshape(reader: _Reader, node: onnx.NodeProto, _: Mapping[str, Any]) -> None:
    tensor, target = reader.tensor(node.input[0]), reader.constant(node.input[1]).tolist()
    batch, *shape = target or [1]
    if batch == 0 and shape.count(-1) == 1 and 0 not in shape:
        known = -int(np.prod(shape, dtype=np.int64))
        shape = [tensor.size // max(1, known) if each == -1 else each for each in shape]
    fits = all(each >= 0 for each in shape) and int(np.prod(shape)) == tensor.size
    if batch not in (-1, 0) or not fits:
        raise _Unsupported("that fixes the batch size")
    reader.values[node.output[0]] = reader.shaped(tensor, tuple(shape))


def _transpose(reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    tensor = reader.tensor(node.input[0])
    batch, *axes = attributes.get("perm", (-1,))
    if batch != 0:
        raise _Unsupported("of the batch axis")
    axes = [each - 1 for each in axes]
    output = Tensor(node.output[0], tensor.dtype, tuple(tensor.shape[each] for each in axes))
    reader.add(node, Transpose(output, tensor, tuple(axes)))


def _concat(reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    parts = tuple(reader.tensor(name) for name in node.input)
    axis = _axis(attributes["axis"], parts[0])
    shape = list(parts[0].shape)
    shape[axis] = sum(each.shape[axis] for each in parts)
    output = Tensor(node.output[0], parts[0].dtype, tuple(shape))
    reader.add(node, Concat(output, parts, axis))


def _slice(reader: _Reader, node: onnx.NodeProto, _: Mapping[str, Any]) -> None:
    tensor, arguments = reader.tensor(node.input[0]), node.input[1:]
    if len(arguments) < 3:
        raise _Unsupported("without axes")
    given = [reader.constant(name).reshape(-1).tolist() for name in arguments]
    if any(len(each) != 1 for each in given) or given[3:] not in ([], [[1]]):
        raise _Unsupported("along several axes or with steps")
    (start,), (end,), (axis,) = given[:3]
    axis = _axis(axis, tensor)
    start, end, _step = slice(start, end).indices(tensor.shape[axis])
    shape = list(tensor.shape)
    shape[axis] = max(0, end - start)
    output = Tensor(node.output[0], tensor.dtype, tuple(shape))
    reader.add(node, Slice(output, tensor, axis, start))


def _gather(reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    tensor, indices = reader.tensor(node.input[0]), reader.constant(node.input[1])
    axis = _axis(attributes.get("axis", 0), tensor)
    if indices.ndim > 1:
        raise _Unsupported("with a table of indices")
    shape = (*tensor.shape[:axis], *indices.shape, *tensor.shape[axis + 1 :])
    output = Tensor(node.output[0], tensor.dtype, shape)
    positions = (indices.reshape(-1) % tensor.shape[axis]).tolist()
    reader.add(node, Gather(output, tensor, axis, tuple(positions)))


def _softmax(reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    tensor = reader.tensor(node.input[0])
    _check_last_axis(tensor, attributes.get("axis", -1))
    reader.add(node, Softmax(Tensor(node.output[0], tensor.dtype, tensor.shape), tensor))


def _arg_max(reader: _Reader, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> None:
    tensor = reader.tensor(node.input[0])
    _check_last_axis(tensor, attributes.get("axis", 0))
    if attributes.get("select_last_index", 0):
        raise _Unsupported("of the last index")
    ending = (1,) if attributes.get("keepdims", 1) else ()
    output = Tensor(node.output[0], np.dtype(np.int64), (*tensor.shape[:-1], *ending))
    reader.add(node, ArgMax(output, tensor))


def _check_last_axis(tensor: Tensor, axis: int) -> None:
    if _axis(axis, tensor) != len(tensor.shape) - 1:
        raise _Unsupported("along another axis than the last")


_Add = Callable[[_Reader, onnx.NodeProto, Mapping[str, Any]], None]
_NODES: Mapping[str, _Add] = {
    "ArgMax": _arg_max,
    "AveragePool": _pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _pool,
    "GlobalMaxPool": _pool,
    "Identity": _identity,
    "MatMul": _mat_mul,
    "MaxPool": _pool,
    "Reshape": _reshape,
    "Slice": _slice,
    "Softmax": _softmax,
    "Transpose": _transpose,
}
"""How to read the operators that are not element-wise."""
