"""One training run, from a configuration to a model folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecEnv

from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.errors import TrainingError
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.spec.policy_spec import ACTION, PolicySpec, TensorSpec
from trpo_deploy.spec.spaces import DictSpace
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.checkpoint.checkpoint import Checkpoint, read_checkpoint
from trpo_deploy.train.checkpoint.rank_state import check_same_world
from trpo_deploy.train.checkpoint.resume import check_same_settings, check_same_spaces
from trpo_deploy.train.config.preset_files import RUN_ID, VERSIONS
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.distributed.launch import run_id
from trpo_deploy.train.run.callbacks.checkpoint import CheckpointCallback, RewindCallback
from trpo_deploy.train.run.callbacks.evaluation import EvaluationCallback, EvaluationPoint
from trpo_deploy.train.run.callbacks.progress import ProgressCallback, TimedCallbacks
from trpo_deploy.train.run.callbacks.user_callbacks import UserCallback, user_callbacks
from trpo_deploy.train.run.csv_log import CsvLog
from trpo_deploy.train.run.dynamo import keep_dynamo_out
from trpo_deploy.train.run.environments import make_evaluation_env, make_training_env
from trpo_deploy.train.run.initial_policy import read_initial_policy, start_from
from trpo_deploy.train.run.model import check_device, make_model
from trpo_deploy.train.run.policy_files import save_policy
from trpo_deploy.train.run.ranks import check_same_run, end_together, send_start, versions
from trpo_deploy.train.run.tensorboard_log import tensorboard_log
from trpo_deploy.train.run.training_card import card_text
from trpo_deploy.train.run.user_log import user_logs
from trpo_deploy.train.vec_env.make import closed_after


@dataclass(frozen=True)
class TrainResult:
    """Result of a training run."""

    folder: ModelDir
    timesteps: int
    """Environment steps made."""
    seconds: float
    """Wall-clock time of this run, without the time before a resume."""
    last: EvaluationPoint
    """The evaluation of the policy in ``policy.zip``."""
    best: EvaluationPoint
    """The best evaluation; its policy is in ``best/``."""
    stopped_early: bool
    """Whether the run stopped because it reached ``stop_return``."""


@dataclass(frozen=True)
class Reports:
    """Functions that a run calls while it trains."""

    evaluation: Callable[[EvaluationPoint], None] = lambda _: None
    """Called after each evaluation."""
    progress: Callable[[int, float | None], None] = lambda *_: None
    """Called at the start and after each rollout: steps so far, mean of the last returns."""
    log: Callable[[dict[str, Any]], None] = lambda _: None
    """Called with each row of the log."""
    note: Callable[[str], None] = lambda _: None
    """Called with messages that are not errors and that the user should see."""


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
        config: What to train.
        folder: Model folder to write; it must be empty or not exist.
        force: Replace an existing model folder.
        resume: Resume from the folder's checkpoint, or start if there is none yet.
        tensorboard: Also write TensorBoard files, into this folder.
        reports: Functions to call during the run.

    Raises:
        EnvError: The environment cannot be made, or fails.
        SpaceError: TRPO does not support the environment's spaces.
        ConfigError: A setting is invalid, or differs from the one of the run to resume.
        ModelDirError: The folder is not empty or not writable, or there is nothing to resume.
        TrainingError: Training cannot continue.
    """
    # Networks of this size lose more to threads than they gain.
    torch.set_num_threads(1)
    keep_dynamo_out()
    reports = reports or Reports()
    check_device(config.device)
    check_same_run(config)
    callbacks = user_callbacks(config.callback)
    checkpoint = read_checkpoint(folder) if resume else None
    if checkpoint is not None:
        check_same_world(checkpoint)
        check_same_settings(checkpoint, config)
    with closed_after(make_training_env(config, reports.note)) as env:
        model = make_model(config, env)
        if checkpoint is None and config.init is not None:
            initial = read_initial_policy(config)
            start_from(model, initial, reports.note)
            config = replace(config, init_sha256=dict(initial.sha256))
        _note_flattened_images(model, env, config, reports.note)
        _note_renamed_keys(model, reports.note)
        with folder.claimed(), ExitStack() as opened:
            # Before the folder is emptied: the arguments of a logger may be wrong.
            outputs: list[KVWriter] = [*user_logs(config.logger, reports.note)]
            opened.callback(_close, outputs)
            if checkpoint is not None:
                check_same_spaces(checkpoint, model)
                folder.sweep()
            else:
                folder.create(force=force or resume)
                if resume:
                    reports.note(f"no checkpoint in {folder.root} yet: starting from the beginning")
            # After the folder is made: TensorBoard's may be inside it.
            if tensorboard is not None:
                outputs.append(tensorboard_log(tensorboard, reports.note))
            started_by = {} if run_id() is None else {RUN_ID: run_id()}
            origin = {VERSIONS: versions(), **started_by}
            atomic_write(folder.config, to_yaml({**config.to_dict(), **origin}))
            with closed_after(make_evaluation_env(config, env)) as evaluation_env:
                evaluation = EvaluationCallback(
                    config, evaluation_env, folder, reports.evaluation, reports.note
                )
                listeners = callbacks, outputs
                result = _learn(model, config, folder, evaluation, checkpoint, listeners, reports)
    end_together()
    return result


def _learn(
    model: TRPO,
    config: TrainConfig,
    folder: ModelDir,
    evaluation: EvaluationCallback,
    checkpoint: Checkpoint | None,
    listeners: tuple[Sequence[UserCallback], Sequence[KVWriter]],
    reports: Reports,
) -> TrainResult:
    """Train; however it ends, the folder then contains the last checkpoint and its policy."""
    own, outputs = listeners
    log = CsvLog(folder, 0 if checkpoint is None else checkpoint.log["rows"], reports.log)
    model.set_logger(Logger(folder=None, output_formats=[log, *outputs]))
    if checkpoint is not None:
        model.num_timesteps = checkpoint.timesteps
        evaluation.restore(checkpoint.evaluation)
    checkpoints = CheckpointCallback(config, folder, evaluation, log, checkpoint, reports.note)
    send_start(model, checkpoint)
    # The user's last: what they change at the start of a rollout is not in its checkpoint, and
    # they change it again after a resume.
    progress = ProgressCallback(reports.progress)
    callbacks = TimedCallbacks(
        [RewindCallback(checkpoints), evaluation, checkpoints, progress, *own]
    )
    if own and checkpoint is not None:
        reports.note(
            "the callbacks start new: what they keep in attributes is not in the checkpoint"
        )
    start = time.perf_counter()
    try:
        # SB3 adds the steps that have been made.
        remaining = config.n_timesteps - model.num_timesteps
        model.learn(remaining, callback=callbacks, reset_num_timesteps=False)
        model.dump_logs()  # SB3 writes a row before each update, so the last update has none yet
        if evaluation.best is None:
            raise TrainingError(
                "a callback stopped the run in its first rollout, so there is no trained policy; "
                "resume the run with --resume"
            )
    except BaseException:
        if checkpoints.has_checkpoint:
            checkpoints.rewind(model)
        elif checkpoint is None:
            folder.discard()
        raise
    finally:
        if checkpoints.has_checkpoint:
            checkpoints.write()
            save_policy(model, folder)
            _write_card(config, folder, evaluation, model.num_timesteps)
            folder.sweep()  # Ctrl-C can leave a temporary file behind
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


def _close(outputs: Sequence[KVWriter]) -> None:
    for output in outputs:
        output.close()


def _note_flattened_images(
    model: TRPO, env: VecEnv, config: TrainConfig, note: Callable[[str], None]
) -> None:
    flat = model.policy.features_extractor_class is FlattenExtractor
    if flat and is_image_space(env.observation_space):
        note(
            f"{config.env_id} observes images, which {config.policy} flattens to a vector; "
            "--set policy=CnnPolicy uses convolutions"
        )


def _note_renamed_keys(model: TRPO, note: Callable[[str], None]) -> None:
    """Say before the training which keys an exported file cannot have as names of its inputs."""
    observations, actions = (
        space_from_gymnasium(space)
        for space in (
            model.env_observation_space or model.observation_space,
            model.env_action_space or model.action_space,
        )
    )
    assert not isinstance(actions, DictSpace)
    action = TensorSpec(ACTION, str(actions.dtype), actions.shape)
    spec = PolicySpec(observations, actions, (action,), "TRPO", None, None, ())
    for key, name in spec.renamed_inputs.items():
        note(
            f"the observation key {key!r} will be the input {name!r} of an exported file, which "
            f"has another tensor {key!r}; rename the key in the environment to avoid that"
        )


def _write_card(
    config: TrainConfig, folder: ModelDir, evaluation: EvaluationCallback, timesteps: int
) -> None:
    if evaluation.best is not None:
        returns = evaluation.last_returns, evaluation.best_returns
        atomic_write(folder.card, card_text(config, timesteps, *returns, versions()))
