"""Environments seen through the spaces that Stable-Baselines3 can take."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from trpo_deploy.envs.space_translation import (
    canonical_action_space,
    canonical_observation_space,
    from_canonical,
    to_canonical,
)


def canonical_env(env: VecEnv) -> VecEnv:
    """The environments themselves if SB3 can take their spaces, else a view of them."""
    same = (
        canonical_observation_space(env.observation_space) is env.observation_space
        and canonical_action_space(env.action_space) is env.action_space
    )
    return env if same else CanonicalEnv(env)


class CanonicalEnv(VecEnvWrapper):
    """Converts observations on the way in and actions on the way out."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(
            venv,
            observation_space=canonical_observation_space(venv.observation_space),
            action_space=canonical_action_space(venv.action_space),
        )

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        observations: VecEnvObs = self._observation(self.venv.reset())
        return observations

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Start a step with canonical actions."""
        self.venv.step_async(from_canonical(actions, self.venv.action_space))

    def step_wait(self) -> VecEnvStepReturn:
        """Finish it."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = self._observation(info["terminal_observation"])
        return self._observation(observations), rewards, dones, infos

    def _observation(self, observation: Any) -> Any:
        return to_canonical(observation, self.venv.observation_space)
