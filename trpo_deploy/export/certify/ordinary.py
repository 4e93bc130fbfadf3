"""Synthetic observations of the size that a policy was trained on."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.policy.observations import ObservationInput
from trpo_deploy.spec.policy_spec import Inputs, TensorSpec
from trpo_deploy.spec.spaces import Array, BoxSpace, Space

Scale: TypeAlias = tuple[Array, Array]
"""Mean and standard deviation, of the observation's shape."""

_WIDE = 1e3  # bounds further apart say nothing about the size of real observations


def ordinary_observations(actor: ActorNetwork, rng: np.random.Generator, rows: int) -> Inputs:
    """Draw raw observations and states.

    Args:
        actor: The policy, whose normaliser gives the size of its observations.
        rng: Random numbers.
        rows: Number of observations.
    """
    batch = {}
    for each in actor.inputs:
        frame, earlier = observation_scales(each)
        batch[each.name] = _frames(each.space, frame, rng, rows)
        if each.frame_stack is not None:
            state = each.frame_stack.state.input
            batch[state.name] = _earlier_frames(each, state, earlier, rng, rows)
    return batch


def observation_scales(each: ObservationInput) -> tuple[Scale | None, Scale | None]:
    """Scales of the current frame and of the earlier frames, as far as the normaliser has them."""
    normalizer, stack = each.normalizer, each.frame_stack
    if normalizer is None:
        return None, None
    if stack is None or each.steps.index(normalizer) < each.steps.index(stack):
        earlier = None
        if stack is not None:
            shape = stack.state.input.shape
            earlier = np.zeros(shape), np.ones(shape)  # already normalised
        return (normalizer.mean, normalizer.std), earlier
    mean, std = normalizer.mean, normalizer.std
    axis = stack.axis - 1 if stack.axis > 0 else -1
    cut = stack.state.input.shape[axis]
    (mean_before, mean_now), (std_before, std_now) = (
        np.split(values, [cut], axis=axis) for values in (mean, std)
    )
    return (mean_now, std_now), (mean_before, std_before)


def _frames(space: Space, scale: Scale | None, rng: np.random.Generator, rows: int) -> Array:
    if not isinstance(space, BoxSpace):
        return np.stack([space.sample(rng) for _ in range(rows)])
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if scale is not None:
        mean, std = (each.reshape(space.shape) for each in scale)
        values = mean + 2.0 * std * rng.normal(size=(rows, *space.shape))
    else:
        factor = rng.choice([0.3, 1.0, 3.0], size=(rows, *(1 for _ in space.shape)))
        values = factor * rng.normal(size=(rows, *space.shape))
        with np.errstate(over="ignore"):
            narrow = high - low < _WIDE
        uniform = rng.uniform(
            np.where(narrow, low, 0), np.where(narrow, high, 1), size=values.shape
        )
        values = np.where(narrow, uniform, values)
    values = np.clip(values, low, high)
    whole = space.low.dtype.kind != "f"
    return np.asarray((np.round(values) if whole else values).astype(space.low.dtype))


def _earlier_frames(
    each: ObservationInput,
    state: TensorSpec,
    scale: Scale | None,
    rng: np.random.Generator,
    rows: int,
) -> Array:
    if scale is not None:
        values = scale[0] + 2.0 * scale[1] * rng.normal(size=(rows, *state.shape))
        return np.asarray(values.astype(state.dtype))
    stack = each.frame_stack
    assert stack is not None
    shape = [rows, *state.shape]
    shape[stack.axis] //= stack.n_stack - 1
    frames = [_frames(each.space, None, rng, rows).reshape(shape) for _ in range(stack.n_stack - 1)]
    return np.concatenate(frames, axis=stack.axis).astype(state.dtype)
