"""``trpo-deploy train``: train a policy, write its run folder, export it."""

from __future__ import annotations

import os
import signal
import warnings
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trpo_deploy.cli.export import print_export
from trpo_deploy.cli.option_groups import option_groups
from trpo_deploy.cli.options import EnvId, count
from trpo_deploy.cli.output import (
    escape,
    own_command,
    say,
    shell_word,
    silence_stdout,
    stdout_console,
)
from trpo_deploy.errors import RankFailedError, TrainingError, TrpoDeployError
from trpo_deploy.extras import require

if TYPE_CHECKING:
    from trpo_deploy.files.model_dir import ModelDir
    from trpo_deploy.train import TrainConfig, TrainResult


class VecEnvKind(str, Enum):
    """How parallel environments run."""

    auto = "auto"
    sync = "sync"
    subproc = "subproc"
    envpool = "envpool"


@dataclass(frozen=True)
class ConfigOptions:
    """Options that change the run's configuration; None keeps the preset's value."""

    timesteps: Annotated[
        int | None,
        typer.Option(
            "--timesteps",
            "-n",
            parser=count,
            metavar="N",
            help="Number of environment steps.",
            show_default="the preset's, else 1000000",
        ),
    ] = None
    seed: Annotated[
        int | None,
        typer.Option(
            help="Random seed (environment, weights, sampling).",
            show_default="the preset's, else 0",
        ),
    ] = None
    n_envs: Annotated[
        int | None,
        typer.Option(help="Number of parallel environments.", show_default="the preset's, else 1"),
    ] = None
    vec_env: Annotated[
        VecEnvKind | None,
        typer.Option(
            metavar="KIND",  # all kinds would take half of an 80-column terminal
            help="auto, sync (in this process), subproc (in subprocesses) or envpool.",
            show_default="the preset's, else auto",
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Shipped preset, RL Zoo YAML file, or a run's config.yaml.",
            show_default="the environment's, if there is one",
        ),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Hyperparameter or other setting, such as target_kl=0.02. Repeatable.",
        ),
    ] = None
    env_args: Annotated[
        list[str] | None,
        typer.Option("--env-arg", metavar="KEY=VALUE", help="Environment argument. Repeatable."),
    ] = None
    init: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="Start from this policy: a policy zip, model folder or RL Zoo run folder.",
            show_default="new weights",
        ),
    ] = None
    callback: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:CLASS",
            help="Your callback of Stable-Baselines3; with arguments, "
            "'module:Class: {argument: value}'. Repeatable.",
        ),
    ] = None
    logger: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE:CLASS",
            help="Your logger, a KVWriter of Stable-Baselines3; likewise. Repeatable.",
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(
            help="auto, cpu or cuda; auto takes the CPU for MlpPolicy.",
            show_default="the preset's, else auto",
        ),
    ] = None
    eval_every: Annotated[
        int | None,
        typer.Option(
            parser=count,
            metavar="N",
            help="Environment steps between evaluations.",
            show_default="the preset's, else 10000",
        ),
    ] = None
    eval_episodes: Annotated[
        int | None,
        typer.Option(help="Episodes per evaluation.", show_default="the preset's, else 20"),
    ] = None
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            parser=count,
            metavar="N",
            help="Environment steps between checkpoints.",
            show_default="the preset's, else 10000",
        ),
    ] = None

    def config(self, env_id: str, preset: str | None) -> TrainConfig:
        """The configuration of a run.

        Raises:
            ConfigError: an unknown name, or a value that cannot be used.
        """
        from trpo_deploy.train import load_config

        return load_config(
            env_id,
            preset=preset,
            settings=self.settings or (),
            env_args=self.env_args or (),
            n_timesteps=self.timesteps,
            seed=self.seed,
            n_envs=self.n_envs,
            vec_env=None if self.vec_env is None else self.vec_env.value,
            init=self.init,
            callback=_yaml_values(self.callback),
            logger=_yaml_values(self.logger),
            device=self.device,
            eval_every=self.eval_every,
            eval_episodes=self.eval_episodes,
            checkpoint_every=self.checkpoint_every,
        )


def _yaml_values(texts: list[str] | None) -> list[Any] | None:
    from trpo_deploy.files.yaml import parse_yaml_value

    return [parse_yaml_value(text) for text in texts] if texts else None


@dataclass(frozen=True)
class RunOptions:
    """How a run starts and what it shows."""

    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the run folder's checkpoint.")
    ] = False
    force: Annotated[
        bool, typer.Option("--force", help="Replace the earlier run in the folder.")
    ] = False
    tensorboard: Annotated[
        Path | None, typer.Option(help="Also write TensorBoard logs to this folder.")
    ] = None
    progress: Annotated[bool, typer.Option(help="Show metrics and a progress bar.")] = True


@option_groups
def train(
    env_id: EnvId,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Run folder.", show_default="runs/ENV_ID"),
    ] = None,
    options: ConfigOptions,
    run: RunOptions,
    export: Annotated[bool, typer.Option(help="Export and verify the trained policy.")] = True,
) -> None:
    """Train a TRPO policy and write a run folder."""
    require("train", *(["export"] if export else []))
    from trpo_deploy.files.model_dir import ModelDir, folder_name

    if run.resume and run.force:
        raise typer.BadParameter("--resume continues a run and --force replaces it: choose one")
    folder = ModelDir(output or Path("runs") / folder_name(env_id))
    # Schedulers, container runtimes and torchrun stop a process with SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        trained = _train_as_rank(env_id, options, folder, run)
    except KeyboardInterrupt:
        _say_stopped(env_id, folder)
        raise typer.Exit(130) from None
    if trained is None:
        return
    config, result = trained
    _print_training(result, config)
    if export:
        _export_trained(folder, config)
    elif folder.onnx.is_file():
        say(
            f"note: {escape(folder.onnx)} is still the previous policy; export the new one with: "
            f"{_export_command(folder, config)}"
        )


def _train_as_rank(
    env_id: str, options: ConfigOptions, folder: ModelDir, run: RunOptions
) -> tuple[TrainConfig, TrainResult] | None:
    """Train, and with ``torchrun`` as one of its ranks; None on another rank than 0."""
    if "WORLD_SIZE" in os.environ:
        # Before torch is imported, which would print a C++ stack for each lost connection. The
        # reason is in our error line.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    from trpo_deploy.train import joined

    rank = 0
    try:
        with joined() as ranks:
            rank = ranks.rank
            if rank > 0:
                silence_stdout()
            config = _config(env_id, options, folder, run)
            if rank == 0:
                return config, _train(config, folder, run)
            _follow(config)
            return None
    except RankFailedError:
        raise typer.Exit(1) from None  # that rank prints the error
    except TrpoDeployError as error:
        if rank == 0:
            raise
        raise TrainingError(f"rank {rank}: {error}") from error


def _config(env_id: str, options: ConfigOptions, folder: ModelDir, run: RunOptions) -> TrainConfig:
    from trpo_deploy.train import settings_to_resume

    preset = options.preset
    if run.resume and preset is None:
        preset = settings_to_resume(folder)
    return options.config(env_id, preset)


def _follow(config: TrainConfig) -> None:
    """Train as another rank than 0, which prints errors only."""
    from trpo_deploy.train import follow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rank 0 prints the same ones
        follow(config)


def _train(config: TrainConfig, folder: ModelDir, run: RunOptions) -> TrainResult:
    from trpo_deploy.cli.progress import train_with_progress
    from trpo_deploy.train.checkpoint.resume import is_of_run
    from trpo_deploy.train.distributed.launch import is_restart, run_id

    # torchrun repeats the first command, which has no --resume.
    restarted = is_restart() and is_of_run(folder, run_id())
    return train_with_progress(
        stdout_console(),
        config,
        folder,
        force=run.force and not restarted,
        resume=run.resume or restarted,
        tensorboard=run.tensorboard,
        live=run.progress,
    )


def _say_stopped(env_id: str, folder: ModelDir) -> None:
    if not folder.config.is_file():
        say("stopped before the first checkpoint, nothing was saved; run the same command again")
    elif "WORLD_SIZE" in os.environ:
        say("stopped; resume with the same torchrun command and --resume")
    else:
        run_again = f"train {shell_word(env_id)} -o {shell_word(folder.root)} --resume"
        say(f"stopped; resume with: {own_command()} {run_again}")


def _print_training(result: TrainResult, config: TrainConfig) -> None:
    from trpo_deploy.envs.returns import return_digits

    last, best = result.last, result.best
    digits = return_digits(last.mean, last.std, best.mean)
    reason = "return reached" if result.stopped_early else "all steps done"
    if result.timesteps < config.n_timesteps and not result.stopped_early:
        reason = "stopped by a callback"
    say(
        f"trained {result.timesteps:,} steps in {result.seconds:.0f} s ({reason}): return "
        f"{last.mean:{digits}} ± {last.std:{digits}}, in {escape(result.folder.root)}"
    )
    if best.mean > last.mean:
        say(
            f"best evaluation: {best.mean:{digits}} at {best.timesteps:,} steps; "
            f"export it with: {_export_command(result.folder.best, config)}"
        )


def _export_trained(folder: ModelDir, config: TrainConfig) -> None:
    from trpo_deploy.files.runs import find_run

    try:
        from trpo_deploy.export import SourceOptions, export_policy

        reading = SourceOptions(allow_import=config.own_classes)
        print_export(export_policy(find_run(folder.root), folder.onnx, reading=reading))
    except KeyboardInterrupt:
        say("stopped; the policy is trained, export it with: " + _export_command(folder, config))
        raise typer.Exit(130) from None
    say(f"next: {own_command()} serve {shell_word(folder.root)}")


def _export_command(folder: ModelDir, config: TrainConfig) -> str:
    allowed = "".join(f" --allow-import {shell_word(name)}" for name in config.own_classes)
    return f"{own_command()} export {shell_word(folder.root)}{allowed}"
