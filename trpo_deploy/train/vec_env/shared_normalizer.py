"""Normalizer with the statistics of all ranks' environments."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnvWrapper, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.distributed.world import world
from trpo_deploy.train.mlp.normalized_step import (
    Batches,
    env_step,
    normalized_step,
    observation_batches,
)
from trpo_deploy.train.mlp.step_arithmetic import fastest
from trpo_deploy.train.mlp.step_numpy import moments_with, sums_around


class SharedNormalizer(VecEnvWrapper):
    """Runs a ``VecNormalize`` with statistics that the ranks update together, one message a step.

    A step normalizes with statistics that include the step's observations, so they cannot wait for
    the end of a rollout. The ``VecNormalize`` stays as it is: saved files hold it.

    Args:
        normalizer: The normalizer of this rank's environments.
    """

    venv: VecNormalize

    def __init__(self, normalizer: VecNormalize) -> None:
        super().__init__(normalizer)
        self._step = env_step(fastest, normalizer.venv)
        self._actions: Array = np.zeros(0)

    def reset(self) -> VecEnvObs:
        """Reset all environments; mirrors ``VecNormalize.reset``."""
        env = self.venv
        raw: Any = env.venv.reset()
        env.old_obs = raw
        env.returns = np.zeros(self.num_envs)
        if env.training and env.norm_obs:
            update_over_ranks(observation_batches(env, raw))
        return env.normalize_obs(raw)

    def step_async(self, actions: Array) -> None:
        """Store the actions for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step the environments."""
        return normalized_step(fastest, self.venv, self._step, update_over_ranks, self._actions)


def update_over_ranks(batches: Batches) -> None:
    """Add the rows of all ranks to statistics that are the same on each rank."""
    sums = [sums_around(rms.mean, batch) for rms, batch in batches]
    flat = np.concatenate([np.ravel(each) for pair in sums for each in pair])
    reduced = world().sum(torch.from_numpy(flat)).numpy()
    start = 0
    for rms, batch in batches:
        shape, size, n = rms.mean.shape, rms.mean.size, len(batch) * world().size
        moved, squares = reduced[start : start + 2 * size].reshape(2, *shape)
        rms.mean, rms.var = moments_with(moved, squares, n, rms.mean, rms.var, rms.count)
        rms.count += n
        start += 2 * size
