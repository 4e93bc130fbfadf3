"""The environments of a run: several side by side, with their statistics."""

from __future__ import annotations

from typing import Any

import gymnasium
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from trpo_deploy.errors import EnvError
from trpo_deploy.train.config import TrainConfig


def make_training_env(config: TrainConfig) -> VecEnv:
    """The environments to train in, each with a ``Monitor``, normalised if the run says so.

    Raises:
        EnvError: the environment cannot be made.
    """
    env = _make(config, config.n_envs, config.seed)
    if not config.normalize:
        return env
    return VecNormalize(env, **_normalizer_arguments(config))


def make_evaluation_env(config: TrainConfig, training_env: VecEnv) -> VecEnv:
    """Environments to evaluate in: raw rewards, the training's statistics, its own seed.

    The statistics are shared and not copied, so they are the training's at any time.
    """
    env = _make(config, min(config.eval_episodes, 10), evaluation_seed(config))
    if not isinstance(training_env, VecNormalize):
        return env
    normalized = VecNormalize(
        env,
        training=False,
        norm_obs=training_env.norm_obs,
        norm_reward=False,
        clip_obs=training_env.clip_obs,
        epsilon=training_env.epsilon,
        norm_obs_keys=training_env.norm_obs_keys,
    )
    normalized.obs_rms = training_env.obs_rms
    return normalized


def evaluation_seed(config: TrainConfig) -> int:
    """Far from the seeds of the training's environments."""
    return config.seed + 1_000_000


def _make(config: TrainConfig, n_envs: int, seed: int) -> VecEnv:
    try:
        return make_vec_env(
            # Not the id itself: SB3 would ask for rendered pictures, and nothing looks at them.
            lambda: gymnasium.make(config.env_id, **config.env_kwargs),
            n_envs=n_envs,
            seed=seed,
            vec_env_cls=DummyVecEnv,
        )
    except Exception as error:  # anything: an environment is somebody's code
        reason = " ".join(str(error).split())
        raise EnvError(f"the environment {config.env_id} cannot be made ({reason})") from error


def _normalizer_arguments(config: TrainConfig) -> dict[str, Any]:
    """As RL Zoo does it: the returns are discounted as the algorithm discounts them."""
    arguments = dict(config.normalize) if not isinstance(config.normalize, bool) else {}
    if "gamma" in config.hyperparameters:
        arguments.setdefault("gamma", config.hyperparameters["gamma"])
    return arguments
