"""Conversion of Gymnasium spaces to the spec's."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from trpo_deploy.errors import SpaceError
from trpo_deploy.spec.spaces import (
    BoxSpace,
    DictSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
    Space,
)


def space_from_gymnasium(space: spaces.Space[Any]) -> Space | DictSpace:
    """Convert a Gymnasium space.

    Raises:
        SpaceError: The spec has no such space.
    """
    if isinstance(space, spaces.Box):
        return BoxSpace(space.low, space.high)
    if isinstance(space, spaces.Discrete):
        return DiscreteSpace(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiDiscreteSpace(space.nvec.astype(np.int64), space.start.astype(np.int64))
    if isinstance(space, spaces.MultiBinary):
        return MultiBinarySpace(tuple(space.shape))
    if isinstance(space, spaces.Dict):
        parts = {key: space_from_gymnasium(part) for key, part in space.spaces.items()}
        return DictSpace({key: _without_keys(key, part) for key, part in parts.items()})
    raise SpaceError(
        f"the space {space} is not supported; supported: Box, Discrete, MultiDiscrete, "
        "MultiBinary, and a Dict of these"
    )


def frames_in(stack: tuple[int, ...], frame: tuple[int, ...]) -> int | None:
    """Number of frames that a shape stacks along one axis; ``None`` if it is no such stack.

    Args:
        stack: Shape of the stack. An image may have been transposed to channels first.
        frame: Shape of a frame.
    """
    for shape in (frame, (*frame[-1:], *frame[:-1])):
        if len(shape) != len(stack) or 0 in shape:
            continue
        factors = [size // part for size, part in zip(stack, shape, strict=True)]
        exact = all(f * part == size for f, part, size in zip(factors, shape, stack, strict=True))
        if exact and sum(factor != 1 for factor in factors) <= 1:
            return max(factors, default=1)
    return None


def _without_keys(key: str, space: Space | DictSpace) -> Space:
    if isinstance(space, DictSpace):
        raise SpaceError(f"the observation {key!r} is a Dict inside a Dict; flatten it")
    return space
