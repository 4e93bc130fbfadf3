"""``DummyVecEnv.step`` with fewer copies."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from stable_baselines3.common.vec_env.util import dict_to_obs

from trpo_deploy.spec.spaces import Array

_VALUES = (bool, bytes, float, int, str, type(None))


def dummy_step(env: DummyVecEnv, actions: Array) -> VecEnvStepReturn:
    """``DummyVecEnv.step``; what it returns is as independent of the environments as there."""
    env.step_async(actions)
    return step_and_reset(env, _copied_info)


def _copied_info(info: dict[str, Any]) -> dict[str, Any]:
    """A deep copy; most infos hold plain values, for which ``deepcopy`` takes ten times as long."""
    if all(isinstance(value, (*_VALUES, np.generic)) for value in info.values()):
        return info.copy()
    return deepcopy(info)


def step_and_reset(
    env: DummyVecEnv, passed_on: Callable[[dict[str, Any]], dict[str, Any]]
) -> VecEnvStepReturn:
    """Step each environment and reset those whose episodes ended.

    Args:
        env: The environments, with their next actions.
        passed_on: From the info of an environment to what the caller gets.
    """
    infos = []
    # Observations without keys are one array, under the key None.
    single: Any = env.buf_obs[env.keys[0]] if env.keys == [None] else None
    for i, each in enumerate(env.envs):
        observation, env.buf_rews[i], terminated, truncated, info = each.step(env.actions[i])
        env.buf_dones[i] = done = bool(terminated or truncated)
        info["TimeLimit.truncated"] = bool(truncated and not terminated)
        if done:
            info["terminal_observation"] = observation
            observation, env.reset_infos[i] = each.reset()
        if single is not None:
            single[i] = observation
        else:
            env._save_obs(i, observation)
        infos.append(info)
    env.buf_infos = infos
    if single is not None:
        observations: Any = single.copy()
    else:
        copies = {key: buffer.copy() for key, buffer in env.buf_obs.items()}
        observations = dict_to_obs(env.observation_space, OrderedDict(copies))
    passed = [passed_on(info) for info in infos]
    return observations, env.buf_rews.copy(), env.buf_dones.copy(), passed
