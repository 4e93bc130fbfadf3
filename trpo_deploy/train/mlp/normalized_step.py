"""``VecNormalize.step`` and ``DummyVecEnv.step`` without their copies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.mlp.dummy_step import dummy_step
from trpo_deploy.train.mlp.step_arithmetic import StepArithmetic
from trpo_deploy.train.update.as_written import is_as_written
from trpo_deploy.train.update.samples import map_arrays

Batches: TypeAlias = list[tuple[RunningMeanStd, Array]]
"""New rows of each running statistic, ``(envs, ...)``."""

Step: TypeAlias = Callable[[Array], tuple[Any, Array, Array, Any]]
"""From actions to observations, rewards, dones and infos."""

_NO_MEAN = np.zeros(())


def env_step(arithmetic: StepArithmetic, env: VecEnv) -> Step:
    """The step function of the environments, without copies where they are as SB3 wrote them."""
    if not is_as_sb3s(env):
        return env.step
    if isinstance(env, DummyVecEnv):
        return partial(dummy_step, env)
    if not isinstance(env, VecNormalize) or not env.norm_obs:
        return env.step
    step = env_step(arithmetic, env.venv)
    return partial(normalized_step, arithmetic, env, step, partial(_update, arithmetic))


def is_as_sb3s(env: VecEnv) -> bool:
    """Whether :func:`env_step` knows what the methods of these environments do."""
    if not isinstance(env, VecNormalize):
        return is_as_written(env, DummyVecEnv)
    statistics = [*_statistics(env).values(), env.ret_rms]
    return is_as_written(env, VecNormalize) and all(
        is_as_written(each, RunningMeanStd) for each in statistics
    )


def stepped_envs(env: VecEnv) -> list[VecEnv]:
    """These environments, and those that they wrap, if :func:`env_step` replaces their methods."""
    if not is_as_sb3s(env):
        return []
    if not isinstance(env, VecNormalize):
        return [env]
    return [env, *stepped_envs(env.venv)] if env.norm_obs else []


def _statistics(env: VecNormalize) -> dict[str | None, RunningMeanStd]:
    """Statistics of each normalized key; of the key None for observations without keys."""
    if not env.norm_obs:
        return {}
    if isinstance(env.observation_space, spaces.Dict):
        return dict(env.obs_rms)
    return {None: env.obs_rms}  # type: ignore[dict-item]


def observation_batches(env: VecNormalize, raw: Any) -> Batches:
    """Raw observations with the statistics that they belong to."""
    statistics = _statistics(env).items()
    return [(rms, raw if key is None else raw[key]) for key, rms in statistics]


def normalized_step(
    arithmetic: StepArithmetic,
    env: VecNormalize,
    step: Step,
    update: Callable[[Batches], None],
    actions: Array,
) -> tuple[Any, Array, Array, Any]:
    """Step and update ``env`` as ``VecNormalize.step`` does, up to rounding.

    Args:
        arithmetic: The arithmetic.
        env: The normalizer.
        step: The step of the environments that it wraps.
        update: Adds rows to running statistics.
        actions: ``(envs, ...)``.
    """
    raw, rewards, dones, infos = step(actions)
    env.old_obs, env.old_reward = raw, rewards
    statistics = _statistics(env)
    if env.training:
        env.returns = arithmetic.discounted(env.returns, env.gamma, rewards)
        update([*observation_batches(env, raw), (env.ret_rms, env.returns)])

    def normalized(observations: Any) -> Any:
        if None in statistics:
            return part(observations, statistics[None])
        if not statistics:
            return map_arrays(np.array, observations)
        keys = env.norm_obs_keys or ()
        return {
            key: part(values, statistics[key]) if key in keys else np.array(values)
            for key, values in observations.items()
        }

    def part(values: Array, rms: RunningMeanStd) -> Array:
        return arithmetic.normalized(values, rms.mean, rms.var, env.epsilon, env.clip_obs)

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
                final = map_arrays(_batch_of_one, info["terminal_observation"])
                info["terminal_observation"] = map_arrays(itemgetter(0), normalized(final))
    return normalized(raw), rewards, dones, infos


def _batch_of_one(values: Any) -> Array:
    return np.asarray(values)[None]


def _update(arithmetic: StepArithmetic, batches: Batches) -> None:
    for rms, batch in batches:
        rms.mean, rms.var = arithmetic.updated_moments(batch, rms.mean, rms.var, rms.count)
        rms.count += len(batch)
