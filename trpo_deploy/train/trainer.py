"""One training run, from a configuration to a model folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

import trpo_deploy
from trpo_deploy.errors import ConfigError, SpaceError
from trpo_deploy.model_dir import ModelDir, atomic_write
from trpo_deploy.train.callbacks import (
    CsvLog,
    EvaluationCallback,
    EvaluationPoint,
    ProgressCallback,
    save_policy,
)
from trpo_deploy.train.config import TrainConfig
from trpo_deploy.train.trpo import TRPO
from trpo_deploy.train.vec_envs import make_evaluation_env, make_training_env
from trpo_deploy.yaml_file import to_yaml


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    folder: ModelDir
    timesteps: int
    seconds: float
    last: EvaluationPoint
    """The evaluation of the policy as it is in ``policy.zip``."""
    best: EvaluationPoint
    """The best evaluation, whose policy is in ``best/``."""
    stopped_early: bool
    """Whether the return at which the run was to end was reached."""


def train(
    config: TrainConfig,
    folder: ModelDir,
    *,
    force: bool = False,
    on_evaluation: Callable[[EvaluationPoint], None] = lambda _: None,
    on_progress: Callable[[int, float | None], None] = lambda *_: None,
) -> TrainResult:
    """Train a policy and write its model folder.

    Args:
        config: what to train.
        folder: where to; it must be empty or not exist.
        force: replace a model folder that is there.
        on_evaluation: called after each evaluation.
        on_progress: called after each rollout, with the steps so far and the mean return of
            the last training episodes.

    Raises:
        EnvError: the environment cannot be made.
        SpaceError: TRPO does not take the environment's spaces.
        ConfigError: a hyperparameter cannot be used.
        ModelDirError: the folder is not empty or cannot be written.
    """
    # Networks of this size lose more to threads than they gain.
    torch.set_num_threads(1)
    env = make_training_env(config)
    try:
        model = _make_model(config, env)
        folder.create(force=force)
        atomic_write(folder.config, _config_text(config))
        model.set_logger(Logger(folder=None, output_formats=[CsvLog(folder)]))
        evaluation_env = make_evaluation_env(config, env)
        evaluation = EvaluationCallback(config, evaluation_env, folder, on_evaluation)
        start = time.perf_counter()
        try:
            callbacks = CallbackList([evaluation, ProgressCallback(on_progress)])
            model.learn(config.n_timesteps, callback=callbacks)
            model.dump_logs()  # SB3 writes a row before each update, so the last has none yet
        finally:
            evaluation_env.close()
            save_policy(model, folder)
    finally:
        env.close()
    assert evaluation.last is not None
    assert evaluation.best is not None
    return TrainResult(
        folder=folder,
        timesteps=model.num_timesteps,
        seconds=time.perf_counter() - start,
        last=evaluation.last,
        best=evaluation.best,
        stopped_early=evaluation.reached,
    )


def _make_model(config: TrainConfig, env: VecEnv) -> TRPO:
    supported = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
    kind = type(env.action_space).__name__
    if kind not in supported:
        raise SpaceError(
            f"{config.env_id} has the action space {env.action_space}; TRPO takes "
            f"{', '.join(supported)}: wrap the environment so that its actions are one of these"
        )
    try:
        return TRPO(
            config.policy,
            env,
            seed=config.seed,
            device=config.device,
            **config.hyperparameters,
        )
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"these settings make no TRPO: {reason}") from error


def _config_text(config: TrainConfig) -> str:
    versions = {
        "trpo-deploy": trpo_deploy.__version__,
        **{n: version(n) for n in ("gymnasium", "numpy", "stable-baselines3", "torch")},
    }
    return to_yaml({**_plain(config.to_dict()), "versions": versions})


def _plain(value: Any) -> Any:
    """Only what YAML has a form for."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
