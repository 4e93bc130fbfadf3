"""Environments stepped one after another, without SB3's copies of copies."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from stable_baselines3.common.vec_env.util import dict_to_obs


class SyncVecEnv(DummyVecEnv):
    """``DummyVecEnv`` that copies what it reuses and nothing else.

    ``DummyVecEnv`` deep-copies all infos and observations at each step. An environment makes
    a new info at each step, and observations are copied once into the batch, so that a batch
    that was given out stays as it is here too.
    """

    def step_wait(self) -> VecEnvStepReturn:
        """Step each environment and start anew those that are done."""
        infos = []
        # Without keys there is one array, and its key is None.
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
