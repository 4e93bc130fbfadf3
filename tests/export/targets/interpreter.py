"""Run a program with NumPy, to compare its steps with the graph that they were read from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

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
    Previous,
    Program,
    Reshape,
    Slice,
    Softmax,
    Step,
    Tensor,
    Transpose,
)
from trpo_deploy.spec.spaces import Array

Values = dict[Tensor, Array]


def interpret(program: Program, row: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
    """The action and the next frames for one row."""
    values: Values = {}
    for key, tensor in program.inputs.items():
        values[tensor] = np.asarray(row[key]).astype(tensor.dtype)
        assert values[tensor].shape == tensor.shape
    for step in program.steps:
        assert step.output not in values, "a tensor is written twice"
        result = _run(step, values)
        assert result.shape == step.output.shape, step
        values[step.output] = result.astype(step.output.dtype)
    states = {name: values[tensor] for name, tensor in program.next_states.items()}
    return values[program.action], states


def _run(step: Step, values: Values) -> Array:
    if isinstance(step, Map):
        return _map(step, values)
    if isinstance(step, Concat):
        return np.concatenate([values[each] for each in step.inputs], axis=step.axis)
    x = values[step.input]
    if isinstance(step, Dense):
        return np.asarray(x @ step.weight + step.bias)
    if isinstance(step, Conv):
        return _conv(step, x)
    if isinstance(step, Pool):
        windows = sliding_window_view(x, step.kernel, axis=(1, 2))
        windows = windows[:, :: step.stride[0], :: step.stride[1]]
        return np.asarray(getattr(np, step.function)(windows, axis=(3, 4)))
    if isinstance(step, Transpose):
        return x.transpose(step.axes)
    if isinstance(step, Slice):
        stop = step.start + step.output.shape[step.axis]
        return np.take(x, range(step.start, stop), axis=step.axis)
    if isinstance(step, Gather):
        taken = np.take(x, step.indices, axis=step.axis)
        return taken.reshape(step.output.shape)
    if isinstance(step, Softmax):
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    if isinstance(step, ArgMax):
        return np.asarray(x.argmax(axis=-1)).reshape(step.output.shape)
    assert isinstance(step, Reshape)
    return x.reshape(step.output.shape)


def _map(step: Map, values: Values) -> Array:
    previous = np.zeros(())
    for operation in step.operations:
        arguments = [_operand(each, values, previous) for each in operation.operands]
        with np.errstate(over="ignore"):
            previous = _call(operation, arguments).astype(operation.dtype)
    return np.broadcast_to(previous, step.output.shape)


def _operand(operand: Operand, values: Values, previous: Array) -> Array:
    if isinstance(operand, Previous):
        return previous
    return values[operand] if isinstance(operand, Tensor) else operand


def _call(operation: Operation, arguments: list[Array]) -> Array:
    return np.asarray(FUNCTIONS[operation.function](*arguments, *operation.parameters))


def _conv(step: Conv, x: Array) -> Array:
    outputs, inputs, *kernel = step.weight.shape
    rows, columns = step.output.shape[1:]
    (top, left), (down, right) = step.padding, step.dilation
    spans = [
        (size - 1) * stride + (k - 1) * dilation + 1
        for size, stride, k, dilation in zip(
            (rows, columns), step.stride, kernel, step.dilation, strict=True
        )
    ]
    padded = np.zeros((len(x), max(spans[0], top + x.shape[1]), max(spans[1], left + x.shape[2])))
    padded[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    windows = sliding_window_view(
        padded, [(k - 1) * d + 1 for k, d in zip(kernel, step.dilation, strict=True)], axis=(1, 2)
    )[:, :: step.stride[0], :: step.stride[1], ::down, ::right][:, :rows, :columns]
    result = np.empty((outputs, rows, columns))
    for index in range(outputs):
        first = index * step.groups // outputs * inputs
        group = windows[first : first + inputs]
        result[index] = np.einsum("crsij,cij->rs", group, step.weight[index]) + step.bias[index]
    return result


FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    "Abs": np.abs,
    "Add": np.add,
    "Cast": np.asarray,
    "Celu": lambda x, a: np.maximum(x, 0) + np.minimum(0, a * np.expm1(x / a)),
    "Div": np.divide,
    "Elu": lambda x, a: np.where(x < 0, a * np.expm1(x), x),
    "Equal": np.equal,
    "Erf": np.vectorize(erf),
    "Exp": np.exp,
    "Greater": np.greater,
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "LeakyRelu": lambda x, a: np.where(x < 0, a * x, x),
    "Less": np.less,
    "Log": np.log,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Pow": np.power,
    "Reciprocal": np.reciprocal,
    "Relu": lambda x: np.maximum(x, 0),
    "Selu": lambda x, a, g: g * np.where(x <= 0, a * np.expm1(x), x),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Softplus": lambda x: np.logaddexp(0, x),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
    "Sub": np.subtract,
    "Tanh": np.tanh,
    "Where": np.where,
}
