"""Returns in units of their own running standard deviation, for the critic."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from trpo_deploy.spec.spaces import Array

ReturnMoments: TypeAlias = dict[str, float]
"""``mean``, ``var`` and ``count`` of returns. Numbers, so that a zip that holds them needs no
class of ours and opens wherever Stable-Baselines3 is."""

NO_RETURNS: ReturnMoments = {"mean": 0.0, "var": 1.0, "count": 1e-4}


def with_returns(moments: ReturnMoments, returns: Array) -> ReturnMoments:
    """The moments with those of more returns added."""
    finite = returns[np.isfinite(returns)]
    if not finite.size:
        return moments
    statistics = RunningMeanStd(shape=())
    vars(statistics).update(moments)
    # In float64: the variance of what float32 just holds overflows there.
    statistics.update(finite.ravel().astype(np.float64))
    return {name: float(getattr(statistics, name)) for name in moments}


def deviation(moments: ReturnMoments) -> float:
    """The standard deviation of all returns so far; one before the first."""
    return math.sqrt(moments["var"] + 1e-8) if moments["count"] >= 1 else 1.0


class ScaledRewards(VecEnvWrapper):
    """Rewards divided by a number that stays the same through a rollout.

    Scaling the rewards and not the returns keeps rewards, values and the bootstrap at time
    limits in the same units, so that advantages come out in them as well. What the number is
    made of are the rewards alone, as ``VecNormalize`` has it: the critic's returns are in
    units of it, and would drive it on.

    Args:
        venv: the environments.
        deviation: the number.
        gamma: discount.
        returns: discounted sum of the rewards of each running episode, ``(envs,)``.
    """

    def __init__(self, venv: VecEnv, deviation: float, gamma: float, returns: Array) -> None:
        super().__init__(venv)
        self.returns = returns
        self.seen: list[Array] = []
        """:attr:`returns` after each step."""
        self._deviation = deviation
        self._gamma = gamma

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Finish a step."""
        observations, rewards, dones, infos = self.venv.step_wait()
        sums = self.returns * self._gamma + rewards
        self.seen.append(sums)
        self.returns = np.where(dones, 0.0, sums)
        scaled: Any = rewards / self._deviation
        return observations, scaled, dones, infos
