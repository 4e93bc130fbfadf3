"""Translates spaces that Stable-Baselines3 does not support into spaces that it does.

SB3 does not support Discrete with a start, MultiDiscrete and MultiBinary actions of several axes,
Box actions without bounds and Box observations without axes. Policies for these are trained on
SB3's nearest space: counted from zero, with one axis, bounded by the largest float.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from trpo_deploy.spec.spaces import Array


def sb3_observation_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The observation space for SB3; the same object if SB3 supports it."""
    if isinstance(space, spaces.Dict):
        parts = {key: sb3_observation_space(part) for key, part in space.items()}
        changed = any(parts[key] is not part for key, part in space.items())
        return spaces.Dict(parts) if changed else space
    # SB3's buffers and networks take a single number as an array of one axis.
    if isinstance(space, spaces.Box) and space.shape == ():
        return spaces.Box(space.low.reshape(1), space.high.reshape(1), dtype=space.dtype.type)
    return _counted_from_zero(space)


def sb3_action_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The action space for SB3; the same object if SB3 supports it."""
    # SB3 takes the number of binary actions as an int; it refuses a shape, even of one axis.
    if isinstance(space, spaces.MultiBinary) and not isinstance(space.n, int):
        return spaces.MultiBinary(int(np.prod(space.shape)))
    if isinstance(space, spaces.Box) and not space.is_bounded():
        largest = np.finfo(np.float32).max
        low, high = (np.clip(bound, -largest, largest) for bound in (space.low, space.high))
        return spaces.Box(low, high, dtype=np.float32)
    return _counted_from_zero(space)


def _counted_from_zero(space: spaces.Space[Any]) -> spaces.Space[Any]:
    if isinstance(space, spaces.Discrete) and space.start != 0:
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.MultiDiscrete) and (space.start.any() or space.nvec.ndim > 1):
        return spaces.MultiDiscrete(space.nvec.flatten())
    return space


def observation_to_sb3(
    observation: Array | dict[str, Array], space: spaces.Space[Any]
) -> Array | dict[str, Array]:
    """Convert an observation, single or batched, to SB3's space.

    Args:
        observation: Observation of the environment.
        space: The environment's observation space.
    """
    if isinstance(space, spaces.Dict):
        assert isinstance(observation, dict)
        return {key: _array_to_sb3(observation[key], part) for key, part in space.items()}
    assert not isinstance(observation, dict)
    return _array_to_sb3(observation, space)


def _array_to_sb3(observation: Array, space: spaces.Space[Any]) -> Array:
    if sb3_observation_space(space) is space:
        return observation
    if isinstance(space, spaces.Box):
        return np.asarray(observation)[..., np.newaxis]
    assert isinstance(space, (spaces.Discrete, spaces.MultiDiscrete))
    values = np.asarray(observation) - space.start
    axes = np.ndim(space.start)
    return values if axes < 2 else values.reshape(*values.shape[: values.ndim - axes], -1)


def action_from_sb3(action: Array, space: spaces.Space[Any]) -> Array:
    """Convert an action of SB3's space, single or batched, for the environment.

    Args:
        action: Action of SB3's space.
        space: The environment's action space.
    """
    if sb3_action_space(space) is space:
        return action
    if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
        action = action.reshape(*action.shape[:-1], *space.shape)
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return action + space.start
    return action
