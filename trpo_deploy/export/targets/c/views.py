"""Images that a convolution reads straight from the raw observation.

A camera's bytes are transposed, converted and scaled before the first convolution. Written out,
these images need more stack than all later layers. A view does the same while it reads a pixel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trpo_deploy.export.targets.program import (
    Conv,
    Map,
    Operation,
    Step,
    Tensor,
    Transpose,
    operands,
)

_CHEAP = ("Add", "Cast", "Div", "Mul", "Sub")


@dataclass(frozen=True, eq=False)
class View:
    """How to read the pixel ``(channel, row, column)`` of an image."""

    base: Tensor
    strides: tuple[int, int, int]
    """Distance of neighbours along each axis, in elements of :attr:`base`."""
    operations: tuple[Operation, ...]
    """From an element of :attr:`base` to the pixel."""
    replaced: tuple[Step, ...]
    """Steps that the view stands for."""


def views(steps: Sequence[Step], results: Iterable[Tensor]) -> Mapping[Conv, View]:
    """The view of each convolution's input."""
    producers = {step.output: step for step in steps}
    readers = Counter(tensor for step in steps for tensor in {*operands(step)})
    readers.update(results)
    alone = {tensor: producers[tensor] for tensor in producers if readers[tensor] == 1}
    return {step: _view(step.input, alone) for step in steps if isinstance(step, Conv)}


def _view(image: Tensor, producers: Mapping[Tensor, Step]) -> View:
    tensor, strides = image, _strides(image.shape)
    operations: tuple[Operation, ...] = ()
    replaced: list[Step] = []
    transposed = False
    while True:
        step = producers.get(tensor)
        if isinstance(step, Map) and _is_cheap(step):
            operations = (*step.operations, *operations)
            (tensor,) = operands(step)
        elif isinstance(step, Transpose) and not transposed:
            own = _strides(step.input.shape)
            channel, row, column = (own[axis] for axis in step.axes)
            strides, tensor, transposed = (channel, row, column), step.input, True
        else:
            return View(tensor, strides, operations, tuple(replaced))
        replaced.append(step)


def _strides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    _, rows, columns = shape
    return rows * columns, columns, 1


def _is_cheap(step: Map) -> bool:
    """Whether a step reads one image and the same numbers for all pixels."""
    images = [*operands(step)]
    constants = (
        each
        for operation in step.operations
        for each in operation.operands
        if isinstance(each, np.ndarray)
    )
    return (
        len(images) == 1
        and images[0].shape == step.output.shape
        and all(each.size == 1 for each in constants)
        and all(each.function in _CHEAP for each in step.operations)
    )
