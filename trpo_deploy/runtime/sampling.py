"""Draws actions from the distribution's parameters, optional outputs of an exported file.

The outputs for each kind of action space, all float32:

===============  ====================================  =========================================
action space     outputs                               action
===============  ====================================  =========================================
Discrete         ``logits`` ``(batch, n)``             a category, plus ``start``
MultiDiscrete    ``logits`` ``(batch, sum(nvec))``     a category of each part, plus ``start``
MultiBinary      ``logits`` ``(batch, prod(shape))``   1 with probability ``sigmoid(logits)``
Box              ``mean``, ``std`` ``(batch, *shape)`` Gaussian, clipped to the bounds
Box, squashed    ``mean``, ``std`` ``(batch, *shape)`` tanh of a Gaussian, scaled to the bounds
===============  ====================================  =========================================

A file with a guard also gives its ``obs_ok``; rows without it get the safe action.

Each observation gets fresh noise of gSDE. Stable-Baselines3 keeps its noise matrix until
``reset_noise``, so there the actions of successive steps are correlated; the distribution of a
single action is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from trpo_deploy.spec.policy_spec import GuardInfo, PolicySpec
from trpo_deploy.spec.spaces import (
    Array,
    BoxSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
)

Draw: TypeAlias = Callable[[Sequence[Array], np.random.Generator], Array]
"""Draws actions ``(batch, *shape)`` from the outputs' values."""


def sampler(spec: PolicySpec) -> tuple[tuple[str, ...], Draw]:
    """The outputs that a drawn action needs, and the function that draws it from them.

    The file need not have these outputs.
    """
    names, draw = _parameters(spec)
    if spec.guard is None:
        return names, draw
    return (*names, spec.guard.output), _guarded(draw, spec.guard)


def _parameters(spec: PolicySpec) -> tuple[tuple[str, ...], Draw]:
    space = spec.action_space
    if isinstance(space, BoxSpace):
        bound = _squashed(space) if spec.squashed else _clipped(space)
        return ("mean", "std"), lambda outputs, rng: bound(_gaussian(outputs, rng))
    if isinstance(space, DiscreteSpace):
        return ("logits",), lambda outputs, rng: space.start + _category(outputs[0], rng)
    if isinstance(space, MultiDiscreteSpace):
        return ("logits",), lambda outputs, rng: _categories(outputs[0], space, rng)
    if isinstance(space, MultiBinarySpace):
        return ("logits",), lambda outputs, rng: _bernoulli(outputs[0], space, rng)
    raise AssertionError(f"not an action space: {space}")


def _guarded(draw: Draw, guard: GuardInfo) -> Draw:
    """Give the safe action where the observation is not finite."""

    def guarded(outputs: Sequence[Array], rng: np.random.Generator) -> Array:
        *parameters, ok = outputs
        drawn = draw(parameters, rng)
        drawn[~ok] = guard.action
        return drawn

    return guarded


def _gaussian(outputs: Sequence[Array], rng: np.random.Generator) -> Array:
    mean, std = outputs
    drawn: Array = mean + std * rng.standard_normal(mean.shape, np.float32)
    return drawn


def _clipped(space: BoxSpace) -> Callable[[Array], Array]:
    low, high = space.inner_bounds
    return lambda gaussian: np.clip(gaussian, low, high)


def _squashed(space: BoxSpace) -> Callable[[Array], Array]:
    """Scale tanh from [-1, 1] to the bounds, as the file's graph does."""
    low, high = space.inner_bounds
    half_range = space.half_range

    def squash(gaussian: Array) -> Array:
        scaled: Array = low + (np.tanh(gaussian) + np.float32(1)) * half_range
        return np.clip(scaled, low, high)  # rounding may exceed a bound

    return squash


def _category(logits: Array, rng: np.random.Generator) -> Array:
    """The Gumbel-max trick: ``argmax(logits + Gumbel noise)`` has the softmax's probabilities."""
    drawn: Array = np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1).astype(np.int64)
    return drawn


def _categories(logits: Array, space: MultiDiscreteSpace, rng: np.random.Generator) -> Array:
    parts = np.split(logits, np.cumsum(space.nvec.ravel())[:-1], axis=1)
    drawn = np.stack([_category(part, rng) for part in parts], axis=1)
    action: Array = space.start + drawn.reshape(-1, *space.shape)
    return action


def _bernoulli(logits: Array, space: MultiBinarySpace, rng: np.random.Generator) -> Array:
    probabilities = 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))  # sigmoid, no overflow
    drawn: Array = (rng.random(logits.shape) < probabilities).astype(np.int8)
    return drawn.reshape(-1, *space.shape)
