"""Rollout samples: an array, or a dict of arrays where observations have keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from trpo_deploy.train.distributed.part import WHOLE, Part, part_of, sub_part
from trpo_deploy.train.distributed.world import world


def map_arrays(function: Callable[[Any], Any], observations: Any) -> Any:
    """Apply a function to an array, or to each array of a dict."""
    if isinstance(observations, dict):
        return {key: function(part) for key, part in observations.items()}
    return function(observations)


@dataclass(frozen=True)
class PolicySamples:
    """The samples of a policy step."""

    samples: RolloutBufferSamples
    """This rank's samples."""
    part: Part
    """What they are of the samples of all ranks."""
    fisher: Part
    """Those of :attr:`samples` that the Fisher matrix is computed on."""


def draw_policy_samples(buffer: RolloutBuffer, every: int, fisher_every: int) -> PolicySamples:
    """The samples of a rollout in random order, as ``sb3_contrib`` draws them.

    Args:
        buffer: A full rollout. It is flattened.
        every: Use every k-th sample. Zero keeps all of them, as in ``sb3_contrib``.
        fisher_every: Use every k-th of these for the Fisher matrix, likewise.
    """
    every, fisher_every = max(every, 1), max(fisher_every, 1)
    if world().size == 1:
        rollout = next(buffer.get(batch_size=None))
        if every > 1:
            rollout = RolloutBufferSamples(*(_every_kth(column, every) for column in rollout))
        rows = slice(None, None, fisher_every) if fisher_every > 1 else None
        return PolicySamples(rollout, WHOLE, Part(rows))
    n_own = flatten(buffer)
    drawn = np.random.permutation(n_own * world().size)[::every]
    part = part_of(drawn, n_own)
    fisher = replace(part, rows=None)
    if fisher_every > 1:
        fisher = sub_part(drawn, n_own, fisher_every)
    return PolicySamples(buffer._get_samples(part.rows), part, fisher)


def flatten(buffer: RolloutBuffer) -> int:
    """Flatten a rollout's arrays, as ``buffer.get`` does before it draws an order.

    Returns:
        Number of samples.
    """
    state = np.random.get_state()
    next(buffer.get(batch_size=1))
    np.random.set_state(state)
    return buffer.buffer_size * buffer.n_envs


def _every_kth(observations: Any, k: int) -> Any:
    return map_arrays(lambda part: part[::k], observations)
