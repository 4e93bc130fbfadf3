"""Spaces that Stable-Baselines3 cannot take, as spaces that it can.

SB3 has no discrete space that is counted from a start, no MultiDiscrete and no MultiBinary
action of several axes, no Box action without bounds and no Box observation without axes. For
these a policy is trained on the canonical space: counted from zero, with one axis, bounded by
the largest float. This module says which that is, and converts both ways.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from trpo_deploy.spec.spaces import Array


def canonical_observation_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space that SB3 is given for observations; the same object if it can be taken as is."""
    if isinstance(space, spaces.Dict):
        parts = {key: canonical_observation_space(part) for key, part in space.items()}
        changed = any(parts[key] is not part for key, part in space.items())
        return spaces.Dict(parts) if changed else space
    # SB3's buffers and networks take one number as one of one axis.
    if isinstance(space, spaces.Box) and space.shape == ():
        return spaces.Box(space.low.reshape(1), space.high.reshape(1), dtype=space.dtype.type)
    return _counted_from_zero(space)


def canonical_action_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space that SB3 is given for actions; the same object if it can be taken as is."""
    # SB3 takes a number of them, and no shape, be it of one axis.
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


def to_canonical(
    observation: Array | dict[str, Array], space: spaces.Space[Any]
) -> Array | dict[str, Array]:
    """An observation of the environment's space, single or batched, as SB3 is given it."""
    if isinstance(space, spaces.Dict):
        assert isinstance(observation, dict)
        return {key: _count_from_zero(observation[key], part) for key, part in space.items()}
    assert not isinstance(observation, dict)
    return _count_from_zero(observation, space)


def _count_from_zero(observation: Array, space: spaces.Space[Any]) -> Array:
    if canonical_observation_space(space) is space:
        return observation
    if isinstance(space, spaces.Box):
        return np.asarray(observation)[..., np.newaxis]
    assert isinstance(space, (spaces.Discrete, spaces.MultiDiscrete))
    values = np.asarray(observation) - space.start
    axes = np.ndim(space.start)
    return values if axes < 2 else values.reshape(*values.shape[: values.ndim - axes], -1)


def from_canonical(action: Array, space: spaces.Space[Any]) -> Array:
    """An action of the canonical space, single or batched, as the environment takes it."""
    if canonical_action_space(space) is space:
        return action
    if isinstance(space, (spaces.MultiDiscrete, spaces.MultiBinary)):
        action = action.reshape(*action.shape[:-1], *space.shape)
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return action + space.start
    return action
