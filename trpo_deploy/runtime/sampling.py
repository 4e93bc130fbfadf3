"""Sampling of actions from the distribution's parameters, optional outputs of an exported file.

The outputs for each kind of action space, all float32:

===============  ====================================  =========================================
action space     outputs                               action
===============  ====================================  =========================================
Discrete         ``logits`` ``(batch, n)``             a category, plus ``start``
MultiDiscrete    ``logits`` ``(batch, sum(nvec))``     a category of each part, plus ``start``
MultiBinary      ``logits`` ``(batch, *shape)``        1 with probability ``sigmoid(logits)``
Box              ``mean``, ``std`` ``(batch, *shape)`` Gaussian, clipped to the bounds
Box, squashed    ``mean_before_tanh``, ``std``         tanh of a Gaussian, scaled to the bounds
===============  ====================================  =========================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import (
    Array,
    BoxSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
    Space,
)

Draw: TypeAlias = Callable[[Sequence[Array], np.random.Generator], Array]
"""Samples actions ``(batch, *shape)`` from the outputs' values."""


def sampler(spec: PolicySpec) -> tuple[tuple[str, ...], Draw] | None:
    """The outputs that sampling needs, and the function that samples from them.

    Returns:
        Names of the outputs and the function; ``None`` if the file has only the mode.
    """
    has = {tensor.name for tensor in spec.outputs}
    space = spec.action_space
    for names, draw in _methods(space):
        if has.issuperset(names):
            return names, draw
    return None


def _methods(space: Space) -> list[tuple[tuple[str, ...], Draw]]:
    if isinstance(space, BoxSpace):
        return [
            (("mean", "std"), lambda outputs, rng: _clip(_gaussian(outputs, rng), space)),
            (
                ("mean_before_tanh", "std"),
                lambda outputs, rng: _scale(np.tanh(_gaussian(outputs, rng)), space),
            ),
        ]
    if isinstance(space, DiscreteSpace):
        return [(("logits",), lambda outputs, rng: space.start + _category(outputs[0], rng))]
    if isinstance(space, MultiDiscreteSpace):
        return [(("logits",), lambda outputs, rng: _categories(outputs[0], space, rng))]
    if isinstance(space, MultiBinarySpace):
        return [(("logits",), lambda outputs, rng: _bernoulli(outputs[0], rng))]
    raise AssertionError(f"not an action space: {space}")


def _gaussian(outputs: Sequence[Array], rng: np.random.Generator) -> Array:
    mean, std = outputs
    drawn: Array = mean + std * rng.standard_normal(mean.shape, np.float32)
    return drawn


def _clip(action: Array, space: BoxSpace) -> Array:
    return np.clip(action, space.low.astype(np.float32), space.high.astype(np.float32))


def _scale(action: Array, space: BoxSpace) -> Array:
    """Scale from [-1, 1] to the bounds."""
    low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    return _clip(low + np.float32(0.5) * (action + np.float32(1)) * (high - low), space)


def _category(logits: Array, rng: np.random.Generator) -> Array:
    """The Gumbel-max trick: ``argmax(logits + Gumbel noise)`` has the softmax's probabilities."""
    drawn: Array = np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1).astype(np.int64)
    return drawn


def _categories(logits: Array, space: MultiDiscreteSpace, rng: np.random.Generator) -> Array:
    parts = np.split(logits, np.cumsum(space.nvec.ravel())[:-1], axis=1)
    drawn = np.stack([_category(part, rng) for part in parts], axis=1)
    action: Array = space.start + drawn.reshape(-1, *space.shape)
    return action


def _bernoulli(logits: Array, rng: np.random.Generator) -> Array:
    probabilities = 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))  # sigmoid, no overflow
    drawn: Array = (rng.random(logits.shape) < probabilities).astype(np.int8)
    return drawn
