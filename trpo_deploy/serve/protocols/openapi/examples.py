"""Example observations, which can be pasted into a request."""

from __future__ import annotations

from typing import Any

import numpy as np

from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.spec.spaces import BoxSpace, DictSpace, Space

_MAX_NUMBERS = 4096
"""Larger observations get no example: nobody would paste it."""


def example_observation(model: ServedModel) -> Any:
    """A reproducible valid observation with few digits; None if it would be too large."""
    spec = model.policy.spec
    if sum(int(np.prod(space.shape)) for space in spec.observation_spaces.values()) > _MAX_NUMBERS:
        return None
    space = spec.observation_space
    rng = np.random.default_rng(0)
    if isinstance(space, DictSpace):
        return {key: _short_sample(item, rng) for key, item in space.spaces.items()}
    return _short_sample(space, rng)


def _short_sample(space: Space, rng: np.random.Generator) -> Any:
    sample = space.sample(rng)
    if isinstance(space, BoxSpace) and space.dtype.kind == "f":
        sample = np.clip(np.round(sample.astype(np.float64), 3), space.low, space.high)
    return sample.tolist()
