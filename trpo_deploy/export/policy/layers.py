"""Layers of a network, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from trpo_deploy.spec.spaces import Array


@dataclass(frozen=True, eq=False)
class Linear:
    """``x @ weight.T + bias``."""

    weight: Array
    """float32, ``(outputs, inputs)``."""
    bias: Array
    """float32, ``(outputs,)``."""


@dataclass(frozen=True, eq=False)
class Conv:
    """A two-dimensional convolution over channels-first images."""

    weight: Array
    """float32, ``(outputs, inputs / groups, height, width)``."""
    bias: Array
    """float32, ``(outputs,)``."""
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class Activation:
    """An element-wise function, by the name of its class in ``torch.nn``."""

    name: str
    """One of :data:`~trpo_deploy.sb3.activations.ACTIVATIONS`."""
    parameters: tuple[float, ...] = ()
    """Values of the attributes in that table, in its order."""


@dataclass(frozen=True)
class Standardize:
    """Layer norm or RMS norm of each row, without weight and bias.

    ``d / sqrt(mean(d^2) + epsilon)``, where ``d`` is ``x - mean(x)``, or ``x`` in an RMS norm.
    """

    width: int
    """Numbers in a row."""
    epsilon: float
    subtracts_mean: bool


@dataclass(frozen=True, eq=False)
class Affine:
    """``x * weight + bias``, each number with its own."""

    weight: Array
    """float32, ``(numbers,)``."""
    bias: Array
    """float32, ``(numbers,)``."""


@dataclass(frozen=True)
class Flatten:
    """Flatten all axes except the batch."""


Layer: TypeAlias = Linear | Conv | Activation | Standardize | Affine | Flatten
