"""Each step of a program as lines of C."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trpo_deploy.export.targets.c.expressions import call
from trpo_deploy.export.targets.c.literals import initializer, number
from trpo_deploy.export.targets.c.views import View
from trpo_deploy.export.targets.indices import around, broadcast_index
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
    Slice,
    Softmax,
    Step,
    Tensor,
    Transpose,
)
from trpo_deploy.spec.spaces import Array

Lines = Iterator[str]


@dataclass(eq=False)
class StepWriter:
    """Writes steps; collects the constants that they need."""

    prefix: str
    """Prefix of the constants' names."""
    address: Callable[[Tensor], str]
    """Expression for the address of a tensor's first element."""
    ctype: Callable[[Tensor | np.dtype[Any]], str]
    """C type of a tensor or of a dtype."""
    views: Mapping[Conv, View]
    constants: list[str] = field(default_factory=list)
    """Definitions of constants."""

    def lines(self, step: Step) -> Lines:
        """The step as lines of C, without indentation of the function."""
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
        yield f"/* {_title(step)} */"
        yield from writers[type(step)](step)

    def constant(self, values: Array, ctype: str) -> str:
        """Define a constant array; return its name."""
        name = f"{self.prefix}_c{len(self.constants)}"
        text = initializer(values, ctype)
        self.constants.append(f"static const {ctype} {name}[{values.size}] = {text};")
        return name

    def _map(self, step: Map) -> Lines:
        out = self.address(step.output)
        yield f"for (int32_t i = 0; i < {step.output.size}; ++i) {{"
        value = ""
        for index, operation in enumerate(step.operations):
            arguments = [self._element(each, step.output, value) for each in operation.operands]
            value = f"v{index}"
            line = self._operation(operation, arguments, value)
            is_exact = _is_exact_difference(operation, step.operations[index + 1 :])
            yield line.replace("const", "const volatile", 1) if is_exact else line
        yield f"    {out}[i] = {value};"
        yield "}"

    def _operation(self, operation: Operation, arguments: list[str], name: str) -> str:
        ctype = self.ctype(operation.dtype)
        text = call(operation.function, arguments, ctype, operation.parameters, self.prefix)
        if operation.function == "Cast" and operation.dtype == np.bool_:
            text = f"(uint8_t)({arguments[0]} != 0)"
        if operation.function == "Div" and ctype == "float" and not _is_constant(operation, 1):
            text = f"{self.prefix}_ratio({', '.join(arguments)})"
        return f"    const {ctype} {name} = {text};"

    def _element(self, operand: Operand, output: Tensor, previous: str) -> str:
        """Element ``i`` of the output's shape of an operand."""
        if isinstance(operand, Previous):
            return previous
        index = _index(operand.shape, output.shape)
        if isinstance(operand, Tensor):
            return f"{self.address(operand)}[{index}]"
        return self._number(operand, self.ctype(operand.dtype), index)

    def _number(self, values: Array, ctype: str, index: str) -> str:
        """Number ``index`` of a constant array; a literal if all numbers are equal."""
        first = values.reshape(-1)[:1]
        if values.size and (values == first).all():
            return number(first[0], ctype)
        return f"{self.constant(values, ctype)}[{index}]"

    def _dense(self, step: Dense) -> Lines:
        """Rows of weights by input, so that the inner loop over outputs vectorises."""
        inputs, outputs = step.weight.shape
        weight = self._number(step.weight, "float", f"i * {outputs} + o")
        bias = self._number(step.bias, "float", "o")
        x, y = self.address(step.input), self.address(step.output)
        yield f"for (int32_t o = 0; o < {outputs}; ++o) {{"
        yield f"    {y}[o] = {bias};"
        yield "}"
        yield f"for (int32_t i = 0; i < {inputs}; ++i) {{"
        yield f"    const float x = {x}[i];"
        yield f"    for (int32_t o = 0; o < {outputs}; ++o) {{"
        yield f"        {y}[o] += x * {weight};"
        yield "    }"
        yield "}"

    def _conv(self, step: Conv) -> Lines:
        """All outputs of a pixel together, so that the inner loop vectorises."""
        view = self.views[step]
        inputs, kernel = step.weight.shape[1], step.weight.shape[2:]
        channels, rows, columns = step.output.shape
        width = channels // step.groups
        by_output = step.weight.reshape(step.groups, width, inputs, *kernel)
        weight = self.constant(by_output.transpose(0, 2, 3, 4, 1), "float")
        bias = self.constant(step.bias, "float")
        yield f"for (int32_t g = 0; g < {step.groups}; ++g)"
        yield f"for (int32_t y = 0; y < {rows}; ++y)"
        yield f"for (int32_t x = 0; x < {columns}; ++x) {{"
        yield f"    float sum[{width}];"
        yield f"    for (int32_t o = 0; o < {width}; ++o) {{"
        yield f"        sum[o] = {bias}[g * {width} + o];"
        yield "    }"
        yield f"    for (int32_t c = 0; c < {inputs}; ++c)"
        for axis, size, at, here, k in self._window(step):
            yield f"    for (int32_t {k} = 0; {k} < {size}; ++{k}) {{"
            yield f"        const int32_t {at} = {here};"
            if step.padding[axis]:
                limit = step.input.shape[1 + axis]
                yield f"        if ({at} < 0 || {at} >= {limit}) {{"
                yield "            continue;"
                yield "        }"
        yield from self._pixel(view, inputs)
        taps = f"((g * {inputs} + c) * {kernel[0]} + j) * {kernel[1]} + k"
        yield f"        const int32_t w = ({taps}) * {width};"
        yield f"        for (int32_t o = 0; o < {width}; ++o) {{"
        yield f"            sum[o] += pixel * {weight}[w + o];"
        yield "        }"
        yield "    }"
        yield "    }"
        yield f"    for (int32_t o = 0; o < {width}; ++o) {{"
        place = f"((g * {width} + o) * {rows} + y) * {columns} + x"
        yield f"        {self.address(step.output)}[{place}] = sum[o];"
        yield "    }"
        yield "}"

    def _window(self, step: Conv) -> Iterator[tuple[int, int, str, str, str]]:
        for axis, (at, out, k) in enumerate((("row", "y", "j"), ("column", "x", "k"))):
            here = f"{out} * {step.stride[axis]} + {k} * {step.dilation[axis]}"
            if step.padding[axis]:
                here += f" - {step.padding[axis]}"
            yield axis, step.weight.shape[2 + axis], at, here, k

    def _pixel(self, view: View, inputs: int) -> Lines:
        channel, row, column = view.strides
        index = f"(g * {inputs} + c) * {channel} + row * {row} + column * {column}"
        element = f"{self.address(view.base)}[{index}]"
        value = "raw"
        yield f"        const {self.ctype(view.base)} raw = {element};"
        for position, operation in enumerate(view.operations):
            arguments = [
                "raw" if isinstance(each, Tensor) else self._scalar(each, value)
                for each in operation.operands
            ]
            value = f"v{position}"
            yield "    " + self._operation(operation, arguments, value)
        yield f"        const float pixel = {value};"

    def _scalar(self, operand: Operand, previous: str) -> str:
        if isinstance(operand, Previous):
            return previous
        assert isinstance(operand, np.ndarray)
        return number(operand.reshape(-1)[0], self.ctype(operand.dtype))

    def _pool(self, step: Pool) -> Lines:
        channels, rows, columns = step.output.shape
        height, width = step.input.shape[1:]
        x, y = self.address(step.input), self.address(step.output)
        first = f"(c * {height} + r * {step.stride[0]}) * {width} + s * {step.stride[1]}"
        yield f"for (int32_t c = 0; c < {channels}; ++c)"
        yield f"for (int32_t r = 0; r < {rows}; ++r)"
        yield f"for (int32_t s = 0; s < {columns}; ++s) {{"
        yield f"    const int32_t first = {first};"
        is_max = step.function == "max"
        yield f"    float pooled = {f'{x}[first]' if is_max else '0.0f'};"
        yield f"    for (int32_t j = 0; j < {step.kernel[0]}; ++j)"
        yield f"    for (int32_t k = 0; k < {step.kernel[1]}; ++k) {{"
        yield f"        const float pixel = {x}[first + j * {width} + k];"
        joined = "pooled > pixel ? pooled : pixel" if is_max else "pooled + pixel"
        yield f"        pooled = {joined};"
        yield "    }"
        mean = "" if is_max else f" / {number(step.kernel[0] * step.kernel[1], 'float')}"
        yield f"    {y}[(c * {rows} + r) * {columns} + s] = pooled{mean};"
        yield "}"

    def _transpose(self, step: Transpose) -> Lines:
        """One loop for each axis of the output."""
        own = np.cumprod((1, *step.input.shape[:0:-1]))[::-1].tolist()
        names = [f"i{axis}" for axis in range(len(step.axes))]
        for name, size in zip(names, step.output.shape, strict=True):
            yield f"for (int32_t {name} = 0; {name} < {size}; ++{name})"
        place = names[0]
        for name, size in zip(names[1:], step.output.shape[1:], strict=True):
            place = f"({place}) * {size} + {name}"
        source = " + ".join(
            f"{name} * {own[axis]}" for name, axis in zip(names, step.axes, strict=True)
        )
        yield f"    {self.address(step.output)}[{place}] = {self.address(step.input)}[{source}];"

    def _concat(self, step: Concat) -> Lines:
        outer, _, inner = around(step.output.shape, step.axis)
        width, offset = step.output.shape[step.axis] * inner, 0
        for each in step.inputs:
            size = each.shape[step.axis] * inner
            to = f"{self.address(step.output)}[n * {width} + {offset} + i]"
            yield from _copy(outer, size, to, f"{self.address(each)}[n * {size} + i]")
            offset += size

    def _slice(self, step: Slice) -> Lines:
        outer, size, inner = around(step.output.shape, step.axis)
        width, skipped = step.input.shape[step.axis] * inner, step.start * inner
        source = f"{self.address(step.input)}[n * {width} + {skipped} + i]"
        to = f"{self.address(step.output)}[n * {size * inner} + i]"
        yield from _copy(outer, size * inner, to, source)

    def _gather(self, step: Gather) -> Lines:
        outer, width, inner = around(step.input.shape, step.axis)
        indices = self.constant(np.asarray(step.indices), "int32_t")
        count = len(step.indices)
        place = f"n * {count * inner} + i"
        source = f"n * {width * inner} + {indices}[i / {inner}] * {inner} + i % {inner}"
        to = f"{self.address(step.output)}[{place}]"
        yield from _copy(outer, count * inner, to, f"{self.address(step.input)}[{source}]")

    def _softmax(self, step: Softmax) -> Lines:
        size = step.output.shape[-1]
        x, y = self.address(step.input), self.address(step.output)
        yield f"for (int32_t n = 0; n < {step.output.size // size}; ++n) {{"
        yield f"    float largest = {x}[n * {size}];"
        yield "    float sum = 0.0f;"
        yield f"    for (int32_t i = 1; i < {size}; ++i) {{"
        yield f"        largest = {x}[n * {size} + i] > largest ? {x}[n * {size} + i] : largest;"
        yield "    }"
        yield f"    for (int32_t i = 0; i < {size}; ++i) {{"
        yield f"        {y}[n * {size} + i] = expf({x}[n * {size} + i] - largest);"
        yield f"        sum += {y}[n * {size} + i];"
        yield "    }"
        yield f"    for (int32_t i = 0; i < {size}; ++i) {{"
        yield f"        {y}[n * {size} + i] /= sum;"
        yield "    }"
        yield "}"

    def _arg_max(self, step: ArgMax) -> Lines:
        size = step.input.shape[-1]
        x, y = self.address(step.input), self.address(step.output)
        ctype = self.ctype(step.output)
        yield f"for (int32_t n = 0; n < {step.output.size}; ++n) {{"
        yield f"    {ctype} best = 0;"
        yield f"    for (int32_t i = 1; i < {size}; ++i) {{"
        yield f"        best = {x}[n * {size} + i] > {x}[n * {size} + best] ? i : best;"
        yield "    }"
        yield f"    {y}[n] = best;"
        yield "}"


def _is_exact_difference(operation: Operation, following: Sequence[Operation]) -> bool:
    """Whether an operation subtracts a mean from which something is subtracted later.

    With -ffast-math, ``x - mean - rest`` may become ``x - (mean + rest)``, which loses the rest.
    The rest of a normaliser's mean is a constant of the same loop. In a layer norm, the mean and
    the rest are computed.
    """
    if operation.function != "Sub":
        return False
    return not _is_constant(operation, 1) or [each.function for each in following[:1]] == ["Sub"]


def _is_constant(operation: Operation, position: int) -> bool:
    return isinstance(operation.operands[position], np.ndarray)


def _title(step: Step) -> str:
    """What a step computes, for a comment."""
    if isinstance(step, Map):
        return ", ".join(operation.function for operation in step.operations)
    shape = "x".join(map(str, step.output.shape))
    return f"{type(step).__name__} to {shape}" if shape else type(step).__name__


def _copy(outer: int, inner: int, to: str, source: str) -> Lines:
    """Copy ``outer`` blocks ``n`` of ``inner`` elements ``i``."""
    yield f"for (int32_t n = 0; n < {outer}; ++n)"
    yield f"for (int32_t i = 0; i < {inner}; ++i) {{"
    yield f"    {to} = {source};"
    yield "}"


def _index(shape: tuple[int, ...], target: tuple[int, ...]) -> str:
    """Index of an operand for element ``i`` of the shape that it broadcasts to."""
    step, count = broadcast_index(shape, target)
    if count == 1:
        return "0"
    index = "i" if step == 1 else f"i / {step}"
    return index if step * count == np.prod(target) else f"({index}) % {count}"
