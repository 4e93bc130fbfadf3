"""Makes the algorithm of a run from its configuration: device, policy, hyperparameters."""

from __future__ import annotations

import torch
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from trpo_deploy.errors import ConfigError
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.distributed.randomness import separate_generators
from trpo_deploy.train.distributed.world import world
from trpo_deploy.train.vec_env.shared_normalizer import SharedNormalizer


def check_device(device: str) -> None:
    """Check that torch can use a device.

    Raises:
        ConfigError: The name is unknown, or there is no such GPU.
    """
    if device == "auto":
        return
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device={device}: expected auto, cpu, cuda or cuda:N") from None
    # Without these checks SB3 falls back to the CPU silently.
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={device}: torch finds no GPU here; omit it, or use cpu")
    found = torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= found:
        raise ConfigError(
            f"device={device}: torch finds {found} GPUs here; the last one is cuda:{found - 1}"
        )


def choose_device(config: TrainConfig) -> str:
    """The device for a run: the CPU for ``MlpPolicy`` with ``device="auto"``, else as configured.

    Small dense networks lose more to a GPU's kernel launches than they gain, as SB3 warns for PPO.
    """
    small = config.device == "auto" and config.policy == "MlpPolicy"
    return "cpu" if small else config.device


def make_model(config: TrainConfig, env: VecEnv) -> TRPO:
    """Make the algorithm; its random generators are those of this rank afterwards.

    Args:
        config: Configuration of the run.
        env: Environments to train in.

    Raises:
        ConfigError: The settings do not fit the environment or each other.
    """
    ranks = world()
    if ranks.size > 1 and isinstance(env, VecNormalize):
        env = SharedNormalizer(env)
    try:
        model = TRPO(
            config.policy,
            env,
            seed=config.seed,
            device=choose_device(config),
            **config.algorithm_arguments(),
        )
    except (
        AssertionError,
        AttributeError,
        LookupError,
        MemoryError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"cannot make TRPO with policy={config.policy} and these settings for {config.env_id}, "
            f"with observations {env.observation_space} and actions {env.action_space}: {reason}"
        ) from error
    separate_generators(config.seed + ranks.rows(model.n_envs).start)
    return model
