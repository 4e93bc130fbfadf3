"""Vectorized environments in the spaces that SB3 supports."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from trpo_deploy.envs.space_translation import (
    action_from_sb3,
    observation_to_sb3,
    sb3_action_space,
    sb3_observation_space,
)


class TranslatedVecEnv(VecEnvWrapper):
    """Converts observations from the environments' spaces to SB3's, and actions back."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(
            venv,
            observation_space=sb3_observation_space(venv.observation_space),
            action_space=sb3_action_space(venv.action_space),
        )

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        observations: VecEnvObs = self._observation(self.venv.reset())
        return observations

    def step_async(self, actions: np.ndarray[Any, Any]) -> None:
        """Start a step with actions of SB3's space."""
        self.venv.step_async(action_from_sb3(actions, self.venv.action_space))

    def step_wait(self) -> VecEnvStepReturn:
        """Finish a step."""
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = self._observation(info["terminal_observation"])
        return self._observation(observations), rewards, dones, infos

    def _observation(self, observation: Any) -> Any:
        return observation_to_sb3(observation, self.venv.observation_space)


def translate_spaces(env: VecEnv) -> VecEnv:
    """Wrap environments whose spaces SB3 does not support; return others as they are."""
    supported = (
        sb3_observation_space(env.observation_space) is env.observation_space
        and sb3_action_space(env.action_space) is env.action_space
    )
    return env if supported else TranslatedVecEnv(env)


def original_env(env: VecEnv) -> VecEnv:
    """Undo :func:`translate_spaces`."""
    return env.venv if isinstance(env, TranslatedVecEnv) else env
