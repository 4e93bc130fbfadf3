"""Discrete and MultiDiscrete spaces as a flat row of numbers."""

from __future__ import annotations

import numpy as np

from trpo_deploy.spec.spaces import Array, DiscreteSpace, MultiDiscreteSpace


def category_counts(space: DiscreteSpace | MultiDiscreteSpace) -> Array:
    """How many values each number can take: int64, ``(numbers,)``."""
    return _flat(space.n if isinstance(space, DiscreteSpace) else space.nvec)


def first_categories(space: DiscreteSpace | MultiDiscreteSpace) -> Array:
    """The smallest value of each number: int64, ``(numbers,)``."""
    return _flat(space.start)


def _flat(values: Array | int) -> Array:
    return np.asarray(values, np.int64).reshape(-1)
