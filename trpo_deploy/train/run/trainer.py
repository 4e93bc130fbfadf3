"""One training run, from a configuration to a model folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecEnv

import trpo_deploy
from trpo_deploy.errors import ConfigError
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.checkpoint.callback import CheckpointCallback
from trpo_deploy.train.checkpoint.state import (
    Checkpoint,
    check_same_settings,
    check_same_spaces,
    read_checkpoint,
)
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.run.callbacks import (
    EvaluationCallback,
    EvaluationPoint,
    ProgressCallback,
    TimedCallbacks,
    save_policy,
)
from trpo_deploy.train.run.csv_log import CsvLog
from trpo_deploy.train.run.environments import make_evaluation_env, make_training_env
from trpo_deploy.train.run.tensorboard_log import TensorBoardLog
from trpo_deploy.train.run.training_card import card_text
from trpo_deploy.train.vec_env.make import closed_after


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


@dataclass(frozen=True)
class Reports:
    """Whom a run tells what, while it runs."""

    evaluation: Callable[[EvaluationPoint], None] = lambda _: None
    """After each evaluation."""
    progress: Callable[[int, float | None], None] = lambda *_: None
    """At the start and after each rollout: steps so far, mean return of the last episodes."""
    log: Callable[[dict[str, Any]], None] = lambda _: None
    """Each row of the log."""
    note: Callable[[str], None] = lambda _: None
    """What a person should know of and is no error."""


def train(
    config: TrainConfig,
    folder: ModelDir,
    *,
    force: bool = False,
    resume: bool = False,
    tensorboard: Path | None = None,
    reports: Reports | None = None,
) -> TrainResult:
    """Train a policy and write its model folder.

    Args:
        config: what to train.
        folder: where to; it must be empty or not exist.
        force: replace a model folder that is there.
        resume: go on from the folder's checkpoint; from the beginning if there is none yet.
        tensorboard: write TensorBoard's files into this folder as well.
        reports: whom to tell what.

    Raises:
        EnvError: the environment cannot be made, or fails.
        SpaceError: TRPO does not take the environment's spaces.
        ConfigError: a setting cannot be used, or is not the one of the run to resume.
        ModelDirError: the folder is not empty or cannot be written, or nothing can be resumed.
        TrainingError: the run cannot go on.
    """
    # Networks of this size lose more to threads than they gain.
    torch.set_num_threads(1)
    reports = reports or Reports()
    _check_device(config.device)
    checkpoint = read_checkpoint(folder) if resume else None
    if checkpoint is not None:
        check_same_settings(checkpoint, config)
    with closed_after(make_training_env(config)) as env:
        model = _make_model(config, env)
        flat = model.policy.features_extractor_class is FlattenExtractor
        if flat and is_image_space(env.observation_space):
            reports.note(
                f"{config.env_id} observes images, which {config.policy} takes as a row of "
                "numbers; --set policy=CnnPolicy sees them as images"
            )
        with folder.claimed():
            if checkpoint is not None:
                check_same_spaces(checkpoint, model)
                folder.sweep()
            else:
                folder.create(force=force or resume)
                if resume:
                    reports.note(f"no checkpoint in {folder.root} yet: starting from the beginning")
            # After the folder, in which it may lie.
            outputs = [] if tensorboard is None else [TensorBoardLog(tensorboard, reports.note)]
            atomic_write(folder.config, to_yaml({**config.to_dict(), "versions": _versions()}))
            with closed_after(make_evaluation_env(config, env)) as evaluation_env:
                evaluation = EvaluationCallback(config, evaluation_env, folder, reports.evaluation)
                return _learn(model, config, folder, evaluation, checkpoint, outputs, reports)


def _learn(
    model: TRPO,
    config: TrainConfig,
    folder: ModelDir,
    evaluation: EvaluationCallback,
    checkpoint: Checkpoint | None,
    outputs: Sequence[KVWriter],
    reports: Reports,
) -> TrainResult:
    """The run itself; whatever ends it, the folder holds its last checkpoint and policy."""
    log = CsvLog(folder, 0 if checkpoint is None else checkpoint.log["rows"], reports.log)
    model.set_logger(Logger(folder=None, output_formats=[log, *outputs]))
    if checkpoint is not None:
        model.num_timesteps = checkpoint.timesteps
        evaluation.restore(checkpoint.evaluation)
    kept = CheckpointCallback(config, folder, evaluation, log, checkpoint, reports.note)
    callbacks = TimedCallbacks([evaluation, kept, ProgressCallback(reports.progress)])
    start = time.perf_counter()
    try:
        # SB3 adds the steps that have been made.
        remaining = config.n_timesteps - model.num_timesteps
        model.learn(remaining, callback=callbacks, reset_num_timesteps=False)
        model.dump_logs()  # SB3 writes a row before each update, so the last has none yet
    except BaseException:
        if kept.any:
            kept.rewind(model)
        elif checkpoint is None:
            folder.discard()
        raise
    finally:
        for output in outputs:
            output.close()
        if kept.any:
            kept.write()
            save_policy(model, folder)
            _write_card(config, folder, evaluation, model.num_timesteps)
            folder.sweep()  # Ctrl-C may come between the making of a file and its cleaning up
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


def _write_card(
    config: TrainConfig, folder: ModelDir, evaluation: EvaluationCallback, timesteps: int
) -> None:
    if evaluation.last is not None:
        returns = evaluation.last_returns, evaluation.best_returns
        atomic_write(folder.card, card_text(config, timesteps, *returns, _versions()))


def _check_device(device: str) -> None:
    if device == "auto":
        return
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"device={device}: expected auto, cpu, cuda or cuda:N") from None
    # SB3 takes the CPU in its place without a word.
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={device}: torch finds no GPU here; leave it out, or say cpu")
    found = torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= found:
        raise ConfigError(
            f"device={device}: torch finds {found} here, the last of them cuda:{found - 1}"
        )


def _device(config: TrainConfig) -> str:
    # Small dense networks lose more to a GPU's launches than they gain, as SB3 says for PPO too.
    small = config.device == "auto" and config.policy == "MlpPolicy"
    return "cpu" if small else config.device


def _make_model(config: TrainConfig, env: VecEnv) -> TRPO:
    try:
        return TRPO(
            config.policy,
            env,
            seed=config.seed,
            device=_device(config),
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
            f"policy={config.policy} and these settings make no TRPO for {config.env_id}, with "
            f"observations {env.observation_space} and actions {env.action_space}: {reason}"
        ) from error


def _versions() -> dict[str, str]:
    packages = ("gymnasium", "numpy", "stable-baselines3", "torch")
    return {"trpo-deploy": trpo_deploy.__version__, **{name: version(name) for name in packages}}
