"""``VecNormalize.step`` without its copies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.mlp.step_arithmetic import StepArithmetic
from trpo_deploy.train.update.as_written import is_as_written

Step: TypeAlias = Callable[[Array], tuple[Array, Array, Array, Any]]
"""From actions to observations, rewards, dones and infos."""

_NO_MEAN = np.zeros(())


def env_step(arithmetic: StepArithmetic, env: VecEnv) -> Step:
    """The step function of the environments, without copies for a plain ``VecNormalize``."""
    if (
        isinstance(env, VecNormalize)
        and is_as_written(env, VecNormalize)
        and env.norm_obs
        and isinstance(env.observation_space, spaces.Box)
        and is_as_written(env.obs_rms, RunningMeanStd)
        and is_as_written(env.ret_rms, RunningMeanStd)
    ):
        return partial(_normalized_step, arithmetic, env)
    return env.step  # type: ignore[return-value]


def _normalized_step(
    arithmetic: StepArithmetic, env: VecNormalize, actions: Array
) -> tuple[Array, Array, Array, Any]:
    """Step and update ``env`` as ``VecNormalize.step`` does, up to rounding."""
    raw: Any
    raw, rewards, dones, infos = env.venv.step(actions)
    env.old_obs, env.old_reward = raw, rewards
    rms: RunningMeanStd = env.obs_rms  # type: ignore[assignment]
    if env.training:
        _update(arithmetic, rms, raw)
        env.returns = arithmetic.discounted(env.returns, env.gamma, rewards)
        _update(arithmetic, env.ret_rms, env.returns)

    def normalized(observations: Array) -> Array:
        return arithmetic.normalized(observations, rms.mean, rms.var, env.epsilon, env.clip_obs)

    if env.norm_reward:
        rewards = arithmetic.normalized(
            rewards, _NO_MEAN, env.ret_rms.var, env.epsilon, env.clip_reward
        )
    else:
        rewards = rewards.astype(np.float32)
    if True in dones.tolist():
        env.returns[dones] = 0
        for info, done in zip(infos, dones.tolist(), strict=True):
            if done and "terminal_observation" in info:
                final = np.asarray(info["terminal_observation"])
                info["terminal_observation"] = normalized(final[None])[0]
    return normalized(raw), rewards, dones, infos


def _update(arithmetic: StepArithmetic, rms: RunningMeanStd, batch: Array) -> None:
    rms.mean, rms.var = arithmetic.updated_moments(batch, rms.mean, rms.var, rms.count)
    rms.count += len(batch)
