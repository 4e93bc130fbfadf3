"""A policy as a short list of typed steps, from which targets write code.

:func:`~trpo_deploy.export.targets.read_graph.read_program` reads it from a finished file of ours.
It holds one row: shapes have no batch axis. Names of functions are those of ONNX operators, with
the same meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import Array


@dataclass(frozen=True)
class Tensor:
    """A value that the policy reads or computes. No two steps write the same one."""

    name: str
    """Its name in the ONNX graph."""
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Previous:
    """As an operand: the result of the operation before, at the same element."""


PREVIOUS = Previous()

Operand: TypeAlias = Tensor | Array | Previous
"""What an operation reads; tensors and constants broadcast to the step's shape as in NumPy."""


@dataclass(frozen=True, eq=False)
class Operation:
    """One function of each element."""

    function: str
    """An ONNX operator of :data:`~trpo_deploy.export.targets.read_graph.FUNCTIONS`."""
    operands: tuple[Operand, ...]
    dtype: np.dtype[Any]
    """Dtype of the result."""
    parameters: tuple[float, ...] = ()
    """The operator's attributes, in the order of ``FUNCTIONS``."""


@dataclass(frozen=True, eq=False)
class Map:
    """Operations one after another on each element, so that one loop computes them all."""

    output: Tensor
    operations: tuple[Operation, ...]


@dataclass(frozen=True, eq=False)
class Dense:
    """``input @ weight + bias``."""

    output: Tensor
    input: Tensor
    weight: Array
    """float32, ``(inputs, outputs)``."""
    bias: Array
    """float32, ``(outputs,)``."""


@dataclass(frozen=True, eq=False)
class Conv:
    """A two-dimensional convolution of a ``(channels, height, width)`` image."""

    output: Tensor
    input: Tensor
    weight: Array
    """float32, ``(outputs, inputs / groups, height, width)``."""
    bias: Array
    """float32, ``(outputs,)``."""
    stride: tuple[int, int]
    padding: tuple[int, int]
    """Zeros before the first row and the first column."""
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True, eq=False)
class Pool:
    """The largest or mean value of each window of a ``(channels, height, width)`` image."""

    output: Tensor
    input: Tensor
    function: str
    """``max`` or ``mean``."""
    kernel: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Transpose:
    """Permute the axes."""

    output: Tensor
    input: Tensor
    axes: tuple[int, ...]
    """Axis of the input for each axis of the output."""


@dataclass(frozen=True, eq=False)
class Concat:
    """Concatenate along one axis."""

    output: Tensor
    inputs: tuple[Tensor, ...]
    axis: int


@dataclass(frozen=True, eq=False)
class Slice:
    """A range of one axis, which ends where the output's shape says."""

    output: Tensor
    input: Tensor
    axis: int
    start: int


@dataclass(frozen=True, eq=False)
class Gather:
    """Chosen elements of one axis."""

    output: Tensor
    input: Tensor
    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Softmax:
    """Softmax over the last axis."""

    output: Tensor
    input: Tensor


@dataclass(frozen=True, eq=False)
class ArgMax:
    """Index of the first largest value of each row of the last axis."""

    output: Tensor
    input: Tensor


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same elements in the same order, under another shape."""

    output: Tensor
    input: Tensor


Step: TypeAlias = (
    Map | Dense | Conv | Pool | Transpose | Concat | Slice | Gather | Softmax | ArgMax | Reshape
)


@dataclass(frozen=True, eq=False)
class Program:
    """A policy: from an observation and the earlier frames to the action and the next frames.

    A guard against NaN in the file is left out; each target checks numbers in its own way.
    """

    spec: PolicySpec
    inputs: Mapping[str, Tensor]
    """Raw observations and earlier frames by :attr:`TensorSpec.key
    <trpo_deploy.spec.policy_spec.TensorSpec.key>`, in the spec's order."""
    steps: tuple[Step, ...]
    action: Tensor
    next_states: Mapping[str, Tensor]
    """Name of a state's input -> the frames for the next step."""

    @property
    def results(self) -> tuple[Tensor, ...]:
        """What the caller gets."""
        return (self.action, *self.next_states.values())


def operands(step: Step) -> Iterator[Tensor]:
    """The tensors that a step reads; one that it reads twice comes twice."""
    if isinstance(step, Map):
        for operation in step.operations:
            yield from (each for each in operation.operands if isinstance(each, Tensor))
    elif isinstance(step, Concat):
        yield from step.inputs
    else:
        yield step.input
