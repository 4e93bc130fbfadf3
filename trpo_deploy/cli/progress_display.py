"""A training run on the terminal: a progress bar over the log as a table."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.run.callbacks.evaluation import EvaluationPoint
from trpo_deploy.train.run.trainer import Reports


class TrainingDisplay:
    """Shows a run while it lasts; where there is no terminal, its evaluations only.

    Args:
        console: to print on.
        config: of the run.
        live: show the bar and the table, if the console is a terminal.
    """

    def __init__(self, console: Console, config: TrainConfig, *, live: bool) -> None:
        self._console = console
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
        self._log: dict[str, Any] = {}
        self.reports = Reports(
            evaluation=self._on_evaluation,
            progress=self._on_progress,
            log=self._log.update,
            note=lambda text: console.print(f"note: {escape(text)}"),
        )

    def __enter__(self) -> TrainingDisplay:
        self._exit.enter_context(warnings.catch_warnings())
        warnings.showwarning = self._on_warning
        if self._live:
            live = Live(get_renderable=self._picture, console=self._console, transient=True)
            self._exit.enter_context(live)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._exit.__exit__(kind, error, traceback)

    def _picture(self) -> Group:
        return Group(log_table(self._log), self._progress)

    def _on_evaluation(self, point: EvaluationPoint) -> None:
        self._console.print(
            f"evaluation at {point.timesteps:>9,} steps: return {point.mean:.1f} ± {point.std:.1f}"
        )

    def _on_progress(self, timesteps: int, recent: float | None) -> None:
        task = self._progress.tasks[self._task]
        if not task.started:
            # A resumed run has not made all of its steps just now.
            self._progress.reset(self._task, completed=timesteps)
        text = "" if recent is None else f"return {recent:.1f}"
        self._progress.update(self._task, completed=timesteps, recent=text)
        if task.speed is not None:
            self._progress.update(self._task, speed=f"{task.speed:,.0f} steps/s")

    def _on_warning(self, message: Warning | str, *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[yellow]warning:[/] {escape(text)}"
        )


def log_table(values: dict[str, Any]) -> Table:
    """The last row of the log, a column of it for each of SB3's sections."""
    sections: dict[str, list[str]] = {}
    for name, value in values.items():
        section, _, key = name.rpartition("/")
        shown = f"{value:,.4g}" if isinstance(value, float) else escape(str(value))
        sections.setdefault(section, []).append(f"{key} [bold]{shown}[/]")
    table = Table(*sections, show_edge=False, pad_edge=False, header_style="dim")
    if sections:
        table.add_row(*("\n".join(lines) for lines in sections.values()))
    return table
