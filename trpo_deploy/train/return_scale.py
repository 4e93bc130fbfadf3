"""Returns in units of their own running standard deviation, for the critic."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from trpo_deploy.spec import Array


class ReturnScale:
    """The standard deviation of all returns so far; one before the first."""

    def __init__(self) -> None:
        self._statistics = RunningMeanStd(epsilon=1e-4, shape=())
        self.deviation = 1.0

    def update(self, returns: Array) -> None:
        """Take in the returns of a rollout, in the reward's own units."""
        finite = returns[np.isfinite(returns)]
        if finite.size:
            self._statistics.update(finite.ravel())
            self.deviation = float(np.sqrt(self._statistics.var + 1e-8))


class ScaledRewards(VecEnvWrapper):
    """Rewards divided by a number that stays the same through a rollout.

    Scaling the rewards and not the returns keeps rewards, values and the bootstrap at time
    limits in the same units, so that advantages come out in them as well.
    """

    def __init__(self, venv: VecEnv, deviation: float) -> None:
        super().__init__(venv)
        self._deviation = deviation

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Finish a step."""
        observations, rewards, dones, infos = self.venv.step_wait()
        scaled: Any = rewards / self._deviation
        return observations, scaled, dones, infos
