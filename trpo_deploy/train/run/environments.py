"""The training and evaluation environments of a run, from its configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from trpo_deploy.envs.episode import MAX_EPISODE_STEPS
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.distributed.world import world
from trpo_deploy.train.vec_env.lasting_state import check_lasting_state, refuse_running_statistics
from trpo_deploy.train.vec_env.make import make_vec_env
from trpo_deploy.train.vec_env.normalizer import normalize_evaluation, normalize_training

MAX_EVALUATION_ENVS = 10


def make_training_env(config: TrainConfig, note: Callable[[str], None] = lambda _: None) -> VecEnv:
    """Make this rank's environments to train in, normalized if the configuration says so.

    Args:
        config: Configuration of the run.
        note: Called with messages that are not errors and that the user should see.

    Raises:
        EnvError: The environment cannot be made.
        SpaceError: TRPO does not support the environment's spaces.
        ConfigError: The settings do not fit the environment.
    """
    refuse_running_statistics(config.environment)
    ranks = world()
    env = make_vec_env(
        config.environment,
        config.n_envs,
        config.seed,
        config.vec_env,
        policy=config.policy,
        check=partial(check_lasting_state, config.environment, note=note),
        own=ranks.rows(config.n_envs // ranks.size),
    )
    if not config.normalize:
        return env
    return normalize_training(env, _normalizer_arguments(config), config.env_id)


def make_evaluation_env(config: TrainConfig, training_env: VecEnv) -> VecEnv:
    """Make the environments to evaluate in: raw rewards, training statistics, their own seeds.

    Endless episodes are truncated where ``trpo-deploy evaluate`` truncates them.
    """
    env = make_vec_env(
        config.environment,
        min(config.eval_episodes, MAX_EVALUATION_ENVS),
        evaluation_seed(config),
        "sync",
        max_episode_steps=MAX_EPISODE_STEPS,
    )
    return normalize_evaluation(env, training_env)


def evaluation_seed(config: TrainConfig) -> int:
    """Seed of the evaluation environments, far from those of the training environments."""
    return config.seed + 1_000_000


def _normalizer_arguments(config: TrainConfig) -> dict[str, Any]:
    """Arguments of ``VecNormalize``; the discount factor is the algorithm's, as in RL Zoo."""
    arguments = {} if isinstance(config.normalize, bool) else dict(config.normalize)
    if "gamma" in config.hyperparameters:
        arguments.setdefault("gamma", config.hyperparameters["gamma"])
    return arguments
