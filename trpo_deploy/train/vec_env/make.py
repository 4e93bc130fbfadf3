"""Makes environments that run side by side."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import gymnasium
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

from trpo_deploy.envs.environment import AnyEnv, Environment
from trpo_deploy.envs.episode import Episode
from trpo_deploy.train.vec_env.checked import CheckedVecEnv, ReportingEnv
from trpo_deploy.train.vec_env.episode_monitor import EpisodeMonitor
from trpo_deploy.train.vec_env.supported_spaces import check_spaces
from trpo_deploy.train.vec_env.sync import SyncVecEnv


def make_vec_env(
    environment: Environment,
    n_envs: int,
    seed: int,
    kind: str = "auto",
    *,
    policy: str | None = None,
    max_episode_steps: int | None = None,
    check: Callable[[AnyEnv], None] = lambda _: None,
    own: slice | None = None,
) -> VecEnv:
    """Make environments, each with an :class:`EpisodeMonitor`; failures are ``EnvError``.

    Args:
        environment: The environment to make.
        n_envs: Number of environments.
        seed: Seed of the first environment; environment ``i`` gets ``seed + i``.
        kind: ``"sync"``, ``"subproc"``, ``"envpool"`` or ``"auto"``. ``"auto"`` is ``"sync"``:
            for the tasks with a preset, communication with another process takes longer than a
            step.
        policy: Alias of the policy that the spaces are checked for, or None for any.
        max_episode_steps: Truncate episodes after this many steps; not for EnvPool.
        check: Called with an environment that is closed afterwards.
        own: The environments to make, if other ranks make the others; None for all.

    Raises:
        EnvError: The environment cannot be made, or its first reset fails.
        SpaceError: TRPO does not support the environment's spaces.
        ConfigError: EnvPool does not support the environment's wrappers.
    """
    own = own or slice(0, n_envs)
    n_own = own.stop - own.start
    # The first one is made and reset in this process, before the caller empties the model folder.
    # A worker process that fails ends before it can report the reason.
    with environment.opened() as first:
        check_spaces(environment.env_id, first, policy)
        Episode(environment, first, seed)
        check(first)
        if kind == "envpool":
            from trpo_deploy.train.vec_env.envpool import EnvPoolVecEnv

            env: VecEnv = EnvPoolVecEnv(environment, n_own, seed + own.start, first)
        else:
            makers: Any = [partial(_make_monitored, environment, max_episode_steps)] * n_own
            env = _subproc(makers) if kind == "subproc" else SyncVecEnv(makers)
            env.seed(seed + own.start)
    return CheckedVecEnv(env, environment.env_id, own.start, n_envs)


def _subproc(makers: Any) -> VecEnv:
    # Without the preload each process imports these modules itself, which takes seconds of a core.
    multiprocessing.set_forkserver_preload([__name__])
    return SubprocVecEnv(makers)


def _make_monitored(
    environment: Environment, max_episode_steps: int | None
) -> gymnasium.Env[Any, Any]:
    env = environment.make(EpisodeMonitor)
    if max_episode_steps is not None:
        env = TimeLimit(env, max_episode_steps)
    return ReportingEnv(env)


@contextmanager
def closed_after(env: VecEnv) -> Iterator[VecEnv]:
    """Close the environments after the block, even if their processes have ended already."""
    try:
        yield env
    finally:
        with suppress(EOFError, OSError):
            env.close()
