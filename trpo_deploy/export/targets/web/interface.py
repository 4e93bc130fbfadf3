"""The arrays of a policy's observation, and their legal numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from trpo_deploy.errors import ExportError
from trpo_deploy.export.targets.web.literals import (
    LARGEST_INTEGER,
    array_type,
    numbers,
    string,
)
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import (
    Array,
    BoxSpace,
    DictSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
    Space,
    bounds,
    dtype_limits,
)


@dataclass(frozen=True, eq=False)
class Input:
    """One array of the observation."""

    key: str
    path: str
    """How messages name it."""
    space: Space
    low: Array
    """Smallest legal number, or one for each element."""
    high: Array

    @property
    def is_flag(self) -> bool:
        """Whether its numbers are 0 and 1, for which ``false`` and ``true`` may stand."""
        return isinstance(self.space, MultiBinarySpace) or self.space.dtype == np.bool_

    def definition(self) -> str:
        """The input as an object of the module."""
        size = int(np.prod(self.space.shape, dtype=np.int64))
        parts = {
            "key": string(self.key),
            "name": string(self.path),
            "shape": str(list(self.space.shape)),
            "data": f"new {array_type(self.space.dtype)}({size})",
            "low": numbers(self.low),
            "high": numbers(self.high),
            "isFloat": "true" if self.space.dtype.kind == "f" else "false",
            "isFlag": "true" if self.is_flag else "false",
        }
        return f"{{ {', '.join(f'{name}: {text}' for name, text in parts.items())} }}"


def has_keys(spec: PolicySpec) -> bool:
    """Whether the observation is an object."""
    return isinstance(spec.observation_space, DictSpace)


def read_inputs(spec: PolicySpec) -> Iterable[Input]:
    """The arrays of the observation, in the spec's order.

    Raises:
        ExportError: An observation has integers that no JavaScript number can hold.
    """
    for key, space in spec.observation_spaces.items():
        _check_integers(key, space)
        path = f"observation.{key}" if has_keys(spec) else "observation"
        yield Input(key, path, space, *_limits(space, guarded=spec.guard is not None))


def _check_integers(key: str, space: Space) -> None:
    if space.dtype.kind in "iu":
        low, high = (int(each) for each in (bounds(space)[0].min(), bounds(space)[1].max()))
        if max(-low, high) > LARGEST_INTEGER:
            raise ExportError(
                f"JavaScript has whole numbers up to {LARGEST_INTEGER}, and the observation "
                f"{key!r} has numbers from {low} to {high}; train with smaller bounds"
            )


def _limits(space: Space, *, guarded: bool) -> tuple[Array, Array]:
    """Smallest and largest legal numbers; each of size 1, or one for each element."""
    if isinstance(space, (DiscreteSpace, MultiDiscreteSpace)):
        start = np.asarray(space.start, np.int64)
        count = space.n if isinstance(space, DiscreteSpace) else space.nvec
        return start, start + count - 1
    if isinstance(space, MultiBinarySpace):
        return np.asarray(0), np.asarray(1)
    assert isinstance(space, BoxSpace)
    if space.dtype.kind != "f":
        low, high = dtype_limits(space.dtype)
        return np.asarray(max(low, -LARGEST_INTEGER)), np.asarray(min(high, LARGEST_INTEGER))
    largest = np.finfo(space.dtype).max
    if guarded:  # a guard in the ONNX file refuses the largest finite number too
        largest = np.nextafter(largest, space.dtype.type(0))
    return np.asarray(-largest), np.asarray(largest)
