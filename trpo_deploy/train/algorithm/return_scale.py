"""Rewards in units of the returns' running standard deviation, for the critic."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.distributed.world import world
from trpo_deploy.train.mlp.step_numpy import moments_with, sums_around

ReturnMoments: TypeAlias = dict[str, float]
"""``mean``, ``var`` and ``count`` of the returns.

Plain numbers, so that a saved policy opens where this package is not installed.
"""

NO_RETURNS: ReturnMoments = {"mean": 0.0, "var": 1.0, "count": 1e-4}
"""The moments before the first return."""


def with_returns(moments: ReturnMoments, returns: Array) -> ReturnMoments:
    """Add the returns of all ranks to the moments; those that are not finite are left out."""
    # In float64: the variance of large float32 values overflows in float32.
    finite = returns[np.isfinite(returns)].astype(np.float64)
    before = {name: np.asarray(moments[name]) for name in ("mean", "var")}
    own = np.array([*sums_around(before["mean"], finite), finite.size], np.float64)
    moved, squares, n = world().sum(torch.from_numpy(own)).numpy()
    if not n:
        return moments
    mean, var = moments_with(moved, squares, int(n), **before, count=moments["count"])
    return {"mean": float(mean), "var": float(var), "count": moments["count"] + float(n)}


def deviation(moments: ReturnMoments) -> float:
    """Standard deviation of all returns so far; 1 before the first return."""
    return math.sqrt(moments["var"] + 1e-8) if moments["count"] >= 1 else 1.0


class ScaledRewards(VecEnvWrapper):
    """Divides rewards by a number that is constant during a rollout.

    Rewards are scaled instead of returns, so that rewards, values and the bootstrap at time limits
    have the same unit, and advantages too. The scale follows from rewards alone, as in
    ``VecNormalize``. The critic's returns are in units of the scale and would inflate it.

    Args:
        venv: The environments.
        scale: Rewards are divided by this number.
        gamma: Discount factor.
        returns: Discounted sum of the rewards of each running episode so far, ``(envs,)``.
    """

    def __init__(self, venv: VecEnv, scale: float, gamma: float, returns: Array) -> None:
        super().__init__(venv)
        self.returns = returns
        self._seen: list[Array] = []
        self._scale = scale
        self._gamma = gamma

    @property
    def seen_returns(self) -> Array:
        """:attr:`returns` after each step, ``(steps, envs)``."""
        return np.array(self._seen)

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Finish a step."""
        observations, rewards, dones, infos = self.venv.step_wait()
        sums = self.returns * self._gamma + rewards
        self._seen.append(sums)
        self.returns = np.where(dones, 0.0, sums)
        scaled: Any = rewards / self._scale
        return observations, scaled, dones, infos


def scale_rewards(
    env: VecEnv,
    moments: ReturnMoments,
    gamma: float,
    running_returns: Array | None,
    episode_starts: Array,
) -> ScaledRewards:
    """The environments with rewards in units of the returns' deviation so far.

    Args:
        env: The environments.
        moments: Moments of the returns so far.
        gamma: Discount factor.
        running_returns: :attr:`ScaledRewards.returns` after the last rollout, or None.
        episode_starts: Whether a new episode starts, ``(envs,)``.
    """
    if running_returns is None or len(running_returns) != env.num_envs:
        running_returns = np.zeros(env.num_envs)
    running_returns = np.where(episode_starts, 0.0, running_returns)
    return ScaledRewards(env, deviation(moments), gamma, running_returns)
