"""Training on the terminal: a progress bar, the latest metrics as a table, the evaluations."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from trpo_deploy.cli.compiled_note import say_once_if_not_compiled
from trpo_deploy.cli.output import escape, warn
from trpo_deploy.envs.returns import return_digits
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train.config.preset_files import preset_of_other_version
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.run.callbacks.evaluation import EvaluationPoint
from trpo_deploy.train.run.trainer import Reports, TrainResult, train


def train_with_progress(
    console: Console,
    config: TrainConfig,
    folder: ModelDir,
    *,
    force: bool = False,
    resume: bool = False,
    tensorboard: Path | None = None,
    live: bool = True,
) -> TrainResult:
    """Train as :func:`trpo_deploy.train.train` does, and show the run on a console.

    Args:
        console: Console to print on.
        config: Configuration of the run.
        folder: Model folder.
        force: Replace an earlier run in the folder.
        resume: Resume from the folder's checkpoint.
        tensorboard: Also write TensorBoard logs to this folder.
        live: Show a progress bar and metrics, if the console is a terminal.
    """
    say_once_if_not_compiled(console)
    with TrainingDisplay(console, config, live=live) as display:
        return train(
            config,
            folder,
            force=force,
            resume=resume,
            tensorboard=tensorboard,
            reports=display.reports,
        )


class TrainingDisplay:
    """Show a run while it lasts: evaluations as lines, on a terminal also progress and metrics.

    Args:
        console: Console to print on.
        config: Configuration of the run.
        live: Show a progress bar and metrics, if the console is a terminal.
    """

    def __init__(self, console: Console, config: TrainConfig, *, live: bool) -> None:
        self._console = console
        self._config = config
        self._live = live and console.is_terminal
        self._exit = ExitStack()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[recent]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task(
            config.env_id, total=config.n_timesteps, start=False, speed="", recent=""
        )
        self._metrics: dict[str, Any] = {}
        self.reports = Reports(
            evaluation=self._on_evaluation,
            progress=self._on_progress,
            log=self._metrics.update,
            note=lambda text: console.print(f"note: {escape(text)}"),
        )

    def __enter__(self) -> TrainingDisplay:
        self._exit.enter_context(warnings.catch_warnings())
        warnings.showwarning = lambda message, *_, **__: warn(message)
        if self._live:
            live = Live(get_renderable=self.picture, console=self._console, transient=True)
            self._exit.enter_context(live)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.__exit__(kind, error, traceback)

    def picture(self) -> Group:
        """The metrics above the progress bar."""
        return Group(metrics_table(self._metrics), self._progress)

    def _on_evaluation(self, point: EvaluationPoint) -> None:
        digits = return_digits(point.mean, point.std)
        self._console.print(
            f"evaluation at {point.timesteps:>9,} steps: return {point.mean:{digits}} ± "
            f"{point.std:{digits}}"
        )

    def _on_progress(self, timesteps: int, recent: float | None) -> None:
        task = self._progress.tasks[self._task]
        if not task.started:
            self._console.print(f"settings: {escape(_origin(self._config))}")
            # Steps from before a resume must not count towards the speed.
            self._progress.reset(self._task, completed=timesteps)
        text = "" if recent is None else f"return {recent:{return_digits(recent)}}"
        self._progress.update(self._task, completed=timesteps, recent=text)
        if task.speed is not None:
            self._progress.update(self._task, speed=f"{task.speed:,.0f} steps/s")


def _origin(config: TrainConfig) -> str:
    """Where the settings of a run come from."""
    if config.preset is not None:
        return f"the preset {config.preset}"
    other = preset_of_other_version(config.env_id)
    hint = "" if other is None else f"; {other} has one: --preset {other}"
    return f"no preset for {config.env_id}, so the defaults of sb3_contrib.TRPO{hint}"


def metrics_table(values: dict[str, Any]) -> Table:
    """The latest row of the log, one column for each of SB3's sections (``train/``, ``time/``)."""
    sections: dict[str, list[str]] = {}
    for name, value in values.items():
        section, _, key = name.rpartition("/")
        shown = f"{value:,.4g}" if isinstance(value, float) else escape(value)
        sections.setdefault(section, []).append(f"{key} [bold]{shown}[/]")
    table = Table(*sections, show_edge=False, pad_edge=False, header_style="dim")
    if sections:
        table.add_row(*("\n".join(lines) for lines in sections.values()))
    return table
