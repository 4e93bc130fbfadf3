"""Environments stepped one after another, with fewer copies than in SB3."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from stable_baselines3.common.vec_env.util import dict_to_obs


class SyncVecEnv(DummyVecEnv):
    """``DummyVecEnv`` that copies only what it reuses.

    ``DummyVecEnv`` deep-copies all infos and observations in each step. Here an info is passed on
    as the environment returns it, and observations are copied once, into the batch. Batches that
    were returned do not change.
    """

    def step_wait(self) -> VecEnvStepReturn:
        """Step each environment and reset those whose episodes ended."""
        infos = []
        # Observations without keys are one array, under the key None.
        single: Any = self.buf_obs[self.keys[0]] if self.keys == [None] else None
        for i, env in enumerate(self.envs):
            observation, self.buf_rews[i], terminated, truncated, info = env.step(self.actions[i])
            self.buf_dones[i] = done = bool(terminated or truncated)
            info["TimeLimit.truncated"] = bool(truncated and not terminated)
            if done:
                info["terminal_observation"] = observation
                observation, self.reset_infos[i] = env.reset()
            if single is not None:
                single[i] = observation
            else:
                self._save_obs(i, observation)
            infos.append(info)
        self.buf_infos = infos
        return self._copied(single), self.buf_rews.copy(), self.buf_dones.copy(), infos

    def _copied(self, single: Any) -> VecEnvObs:
        if single is not None:
            observations: VecEnvObs = single.copy()
            return observations
        copies = {key: buffer.copy() for key, buffer in self.buf_obs.items()}
        return dict_to_obs(self.observation_space, OrderedDict(copies))
