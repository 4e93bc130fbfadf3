"""Observations of a rollout: their memory, and the features that a step computes from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space

from trpo_deploy.errors import ObservationError
from trpo_deploy.spec.policy_spec import OBS
from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.update.samples import map_arrays

Features: TypeAlias = Callable[[Any], Array]
"""From observations, an array or a dict of arrays, to the network's input, ``(n_envs, ...)``.

The next call may overwrite the result.
"""


def has_flat_features(space: spaces.Space[Any]) -> bool:
    """Whether SB3 makes features of an observation without a network."""
    if isinstance(space, spaces.Dict):
        return all(has_flat_features(part) for part in space.values())
    known = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)
    return isinstance(space, known) and not is_image_space(space)


def make_features(space: spaces.Space[Any], n_envs: int) -> Features:
    """The features of SB3's ``preprocess_obs`` and its flattening extractors, in NumPy.

    Args:
        space: A space with flat features.
        n_envs: Number of observations in a call.
    """
    if isinstance(space, spaces.Box):
        return np.asarray  # a forward pass flattens its input itself
    parts: dict[Any, spaces.Space[Any]] = {None: space}
    if isinstance(space, spaces.Dict):
        parts = dict(space.spaces)
    widths = [get_flattened_obs_dim(part) for part in parts.values()]
    features = np.zeros((n_envs, sum(widths)), np.float32)
    blocks = np.split(features, np.cumsum(widths)[:-1], axis=1)  # views
    writers = [
        (key, _writer(part, block, OBS if key is None else key))
        for (key, part), block in zip(parts.items(), blocks, strict=True)
    ]

    def write(observations: Any) -> Array:
        for key, write_part in writers:
            write_part(observations if key is None else observations[key])
        return features

    return write


def _writer(space: spaces.Space[Any], block: Array, key: str) -> Callable[[Array], None]:
    if isinstance(space, spaces.Discrete):
        return partial(_write_one_hot, block, key, np.array([int(space.n)]))
    if isinstance(space, spaces.MultiDiscrete):
        return partial(_write_one_hot, block, key, space.nvec)
    return partial(_write_flat, block)


def _write_flat(block: Array, values: Array) -> None:
    block[...] = values.reshape(block.shape)


def _write_one_hot(block: Array, key: str, sizes: Array, values: Array) -> None:
    indices = values.reshape(len(block), -1)
    if indices.min() < 0 or (indices >= sizes).any():  # they would be columns of other numbers
        expected = f"integers from 0 to {(sizes - 1).tolist()}"
        raise ObservationError(key, expected, str(indices.tolist()), kind="out_of_range")
    block[...] = 0.0
    np.put_along_axis(block, indices + np.cumsum(sizes) - sizes, 1.0, axis=1)


class RolloutObservations:
    """The observations of a rollout, in memory that each step's tensors view.

    Args:
        observations: Those of the first step, ``(n_envs, ...)`` or a dict of these.
        n_steps: Number of steps.
    """

    def __init__(self, observations: Any, n_steps: int) -> None:
        self._memory = map_arrays(
            lambda part: np.empty((n_steps, *part.shape), part.dtype), observations
        )

    def tensors(self) -> Iterable[Any]:
        """The observations of each step as tensors, or dicts of these, to be written to."""
        if not isinstance(self._memory, dict):
            return torch.from_numpy(self._memory)
        parts = map(torch.from_numpy, self._memory.values())
        return (dict(zip(self._memory, step, strict=True)) for step in zip(*parts, strict=True))

    def write(self, step: int, observations: Any) -> None:
        """Keep the observations of a step."""
        if isinstance(self._memory, dict):
            for key, part in self._memory.items():
                part[step] = observations[key]
        else:
            self._memory[step] = observations

    def copy_to(self, buffer: RolloutBuffer) -> None:
        """Write all observations into a buffer; its arrays of integers have one axis more."""
        if not isinstance(self._memory, dict):
            buffer.observations[...] = self._memory.reshape(buffer.observations.shape)
            return
        parts: Any = buffer.observations
        for key, part in self._memory.items():
            parts[key][...] = part.reshape(parts[key].shape)
