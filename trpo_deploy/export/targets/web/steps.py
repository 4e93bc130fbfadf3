"""Each step of a program as lines of JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from trpo_deploy.export.targets.indices import around, broadcast_index
from trpo_deploy.export.targets.program import (
    ArgMax,
    Concat,
    Conv,
    Dense,
    Gather,
    Map,
    Operand,
    Pool,
    Previous,
    Slice,
    Softmax,
    Step,
    Tensor,
    Transpose,
)
from trpo_deploy.export.targets.web.expressions import call
from trpo_deploy.export.targets.web.literals import array_type, decoded, number
from trpo_deploy.spec.spaces import Array

Lines = Iterator[str]


@dataclass(eq=False)
class StepWriter:
    """Writes steps; collects the constants that they need."""

    name: Callable[[Tensor], str]
    """Name of a tensor's typed array."""
    constants: list[str] = field(default_factory=list)
    """Definitions of constants."""
    _weights: list[Array] = field(default_factory=list)
    _defined: dict[bytes, str] = field(default_factory=dict)
    """Names of float32 constants by their bytes; each is written once."""

    def lines(self, step: Step) -> Lines:
        """The step as lines of JavaScript, without indentation of the function."""
        writers: Mapping[type[Any], Callable[[Any], Lines]] = {
            ArgMax: self._arg_max,
            Concat: self._concat,
            Conv: self._conv,
            Dense: self._dense,
            Gather: self._gather,
            Map: self._map,
            Pool: self._pool,
            Slice: self._slice,
            Softmax: self._softmax,
            Transpose: self._transpose,
        }
        return writers[type(step)](step)

    def weights(self) -> str:
        """The definition of all float32 constants as one text, which is the smallest form."""
        values = self._weights or [np.zeros(0, np.float32)]
        return f"const weights = {decoded(np.concatenate(values))};"

    def _constant(self, values: Array) -> str:
        """Define a constant typed array; return its name."""
        if values.dtype == np.float32:
            content = values.tobytes()
            if content not in self._defined:
                first = sum(each.size for each in self._weights)
                self._weights.append(values.reshape(-1))
                end = first + values.size
                self._defined[content] = self._define(f"weights.subarray({first}, {end})")
            return self._defined[content]
        texts = ", ".join(number(each) for each in values.reshape(-1))
        return self._define(f"{array_type(values.dtype)}.of({texts})")

    def _define(self, value: str) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(f"const {name} = {value};")
        return name

    def _map(self, step: Map) -> Lines:
        yield f"for (let i = 0; i < {step.output.size}; i++) {{"
        value = ""
        for index, operation in enumerate(step.operations):
            arguments = [self._element(each, step.output, value) for each in operation.operands]
            value = f"v{index}"
            text = call(operation.function, arguments, operation.dtype, operation.parameters)
            yield f"  const {value} = {text};"
        yield f"  {self.name(step.output)}[i] = {value};"
        yield "}"

    def _element(self, operand: Operand, output: Tensor, previous: str) -> str:
        """Element ``i`` of the output's shape of an operand."""
        if isinstance(operand, Previous):
            return previous
        index = _index(operand.shape, output.shape)
        if isinstance(operand, Tensor):
            return f"{self.name(operand)}[{index}]"
        first = operand.reshape(-1)[:1]
        if operand.size and (operand == first).all():
            text = number(first[0])
            return f"({text})" if text.startswith("-") else text  # -1 ** 2 is a syntax error
        return f"{self._constant(operand)}[{index}]"

    def _dense(self, step: Dense) -> Lines:
        weight, bias = self._constant(step.weight.T), self._constant(step.bias)
        yield f"dense({self.name(step.input)}, {weight}, {bias}, {self.name(step.output)});"

    def _conv(self, step: Conv) -> Lines:
        parts = []
        for values in (step.weight, step.bias):
            groups = [self._constant(each) for each in np.split(values, step.groups)]
            parts.append(self._define(f"[{', '.join(groups)}]"))
        at = self._window(step, step.weight.shape[2:], padding=step.padding, dilation=step.dilation)
        x, y = self.name(step.input), self.name(step.output)
        yield f"conv({x}, {', '.join(parts)}, {y}, {at});"

    def _pool(self, step: Pool) -> Lines:
        at = self._window(step, step.kernel)
        is_max = "true" if step.function == "max" else "false"
        yield f"pool({self.name(step.input)}, {self.name(step.output)}, {at}, {is_max});"

    def _window(self, step: Conv | Pool, kernel: tuple[int, ...], **others: tuple[int, ...]) -> str:
        values = {
            "input": step.input.shape,
            "output": step.output.shape,
            "kernel": kernel,
            "stride": step.stride,
            **others,
        }
        texts = (f"{name}: {_sizes(value)}" for name, value in values.items())
        return self._define(f"{{ {', '.join(texts)} }}")

    def _transpose(self, step: Transpose) -> Lines:
        """One loop for each axis of the output."""
        own = [prod(step.input.shape[axis + 1 :]) for axis in range(len(step.axes))]
        names = [f"i{axis}" for axis in range(len(step.axes))]
        yield "{"
        yield "let to = 0;"
        for name, size in zip(names, step.output.shape, strict=True):
            yield f"for (let {name} = 0; {name} < {size}; {name}++)"
        terms = (f"{name} * {own[axis]}" for name, axis in zip(names, step.axes, strict=True))
        yield f"  {self.name(step.output)}[to++] = {self.name(step.input)}[{' + '.join(terms)}];"
        yield "}"

    def _concat(self, step: Concat) -> Lines:
        outer, _, inner = around(step.output.shape, step.axis)
        width, offset = step.output.shape[step.axis] * inner, 0
        y = self.name(step.output)
        for each in step.inputs:
            size = each.shape[step.axis] * inner
            yield f"copy({outer}, {size}, {self.name(each)}, 0, {size}, {y}, {offset}, {width});"
            offset += size

    def _slice(self, step: Slice) -> Lines:
        outer, size, inner = around(step.output.shape, step.axis)
        size, width = size * inner, step.input.shape[step.axis] * inner
        x, y = self.name(step.input), self.name(step.output)
        yield f"copy({outer}, {size}, {x}, {step.start * inner}, {width}, {y}, 0, {size});"

    def _gather(self, step: Gather) -> Lines:
        """Copy each chosen element by itself; there are few."""
        outer, width, inner = around(step.input.shape, step.axis)
        x, y, count = self.name(step.input), self.name(step.output), len(step.indices)
        indices = self._constant(np.asarray(step.indices, np.int32))
        yield f"for (let k = 0; k < {count}; k++) {{"
        yield (
            f"  copy({outer}, {inner}, {x}, {indices}[k] * {inner}, {width * inner}, "
            f"{y}, k * {inner}, {count * inner});"
        )
        yield "}"

    def _softmax(self, step: Softmax) -> Lines:
        size = step.output.shape[-1]
        yield f"softmax({self.name(step.input)}, {self.name(step.output)}, {size});"

    def _arg_max(self, step: ArgMax) -> Lines:
        size = step.input.shape[-1]
        yield f"argMax({self.name(step.input)}, {self.name(step.output)}, {size});"


def _sizes(values: tuple[int, ...]) -> str:
    return f"[{', '.join(str(int(each)) for each in values)}]"


def _index(shape: tuple[int, ...], target: tuple[int, ...]) -> str:
    """Index of an operand for element ``i`` of the shape that it broadcasts to."""
    step, count = broadcast_index(shape, target)
    if count == 1:
        return "0"
    index = "i" if step == 1 else f"Math.floor(i / {step})"
    return index if step * count == prod(target) else f"{index} % {count}"
