"""``trpo-deploy tune``: search for the settings of a task with Optuna."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.table import Table

from trpo_deploy.cli.compiled_note import say_once_if_not_compiled
from trpo_deploy.cli.interrupts import stoppable
from trpo_deploy.cli.options import EnvId, count
from trpo_deploy.cli.output import escape, own_command, say, shell_word, stdout_console
from trpo_deploy.extras import require

if TYPE_CHECKING:
    from optuna import Study

    from trpo_deploy.train.run.tuning.study import StudyFolder, Task

_SHOW_S = 2.0
_IDLE_LOOKS = 2
"""Looks without a working process until the study counts as ended: between two trials is a gap."""
_ENOUGH_SEEDS = 3
_COLUMNS = ("trial", "state", "return", "steps")


def tune(
    env_id: EnvId,
    trials: Annotated[
        int, typer.Option(min=1, help="Number of trials, of all processes together.")
    ] = 50,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Runs of a trial, with seeds from 0 on.")
    ] = 3,
    timesteps: Annotated[
        int | None,
        typer.Option(
            "--timesteps",
            "-n",
            parser=count,
            metavar="N",
            help="Environment steps per run.",
            show_default="the preset's, else 1000000",
        ),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Search space, a YAML file.", show_default="that of RL Zoo"
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Preset as in train, for what is not searched.",
            show_default="the environment's, if there is one",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Setting as in train, for what is not searched. Repeatable.",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where Optuna keeps the study: the path of a journal file, or the URL of a "
            "database.",
            show_default="journal.log in the study's folder",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Parallel trials; each trains its seeds at once.",
            show_default="CPU cores / seeds",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Study folder.", show_default="tuning/ENV_ID"),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Show the trials of a running study, and no more.")
    ] = False,
) -> None:
    """Search for the settings of a task with Optuna; write them as a preset.

    Run it again to continue a study. Several at once with the same folder, on
    one machine or on several, divide the trials.
    """
    require("train", "tune")
    from trpo_deploy.files.model_dir import folder_name
    from trpo_deploy.train.run.benchmark.variants import Variant
    from trpo_deploy.train.run.tuning.study import StudyFolder, Task

    root = output or Path("tuning") / folder_name(env_id)
    folder = StudyFolder(root, storage)
    if show:
        with stoppable("stopped showing; the study goes on"):
            _show(folder)
        return
    task = Task(env_id, timesteps, Variant(preset=preset, settings=tuple(settings or ())), seeds)
    jobs = jobs or max(1, (os.cpu_count() or 1) // seeds)
    _tune(task, space, folder, trials, jobs)


def _tune(task: Task, space: Path | None, folder: StudyFolder, trials: int, jobs: int) -> None:
    from trpo_deploy.envs.returns import return_digits
    from trpo_deploy.train.run.tuning.tuning import tune as run

    say_once_if_not_compiled(stdout_console())  # what its runs print is not shown

    def report(line: str) -> None:
        say(escape(line))

    with stoppable("stopped; run the same command again to continue the study"):
        best = run(task, space, folder, trials, jobs, report)
    say(escape((folder.comparison / "comparison.md").read_text()))
    say(
        f"best: trial {best.number} with {best.value:{return_digits(best.value)}} on the seeds of "
        "the study; the table above has it on fresh seeds"
    )
    if task.n_seeds < _ENOUGH_SEEDS:
        say(
            f"note: {2 * task.n_seeds} fresh seeds are too few for an interval that settles "
            f"anything; tune with --seeds {_ENOUGH_SEEDS} or more"
        )
    say(
        f"next: {own_command()} train {shell_word(task.env_id)} --preset "
        f"{shell_word(folder.preset)}"
    )


def _show(folder: StudyFolder) -> None:
    """Show the table of trials, in a terminal until no process works on them."""
    from trpo_deploy.train.run.benchmark.tables import markdown

    study = folder.find()
    console = stdout_console()
    if not console.is_terminal:
        title, lines, _ = _look(study, folder)
        say(escape(f"{title}\n\n{markdown(lines)}".rstrip()))
        return
    with Live(console=console, auto_refresh=False) as live:
        idle_looks = 0
        while idle_looks < _IDLE_LOOKS:
            title, lines, is_active = _look(study, folder)
            idle_looks = 0 if is_active else idle_looks + 1
            ended = idle_looks == _IDLE_LOOKS
            live.update(_rich_table(title, lines, whole=ended), refresh=True)
            if not ended:
                time.sleep(_SHOW_S)


def _look(study: Study, folder: StudyFolder) -> tuple[str, list[list[str]], bool]:
    """Title and lines of the table, and whether a process works on the study."""
    from optuna.trial import TrialState

    from trpo_deploy.train.run.tuning.report import trial_table
    from trpo_deploy.train.run.tuning.study import trial_lease

    before = folder.leases.names()
    trials = study.get_trials(deepcopy=False)
    held = before | folder.leases.names()  # a trial may end or begin between the two looks
    running = {each.number for each in trials if each.state == TrialState.RUNNING}
    stopped = {number for number in running if trial_lease(number) not in held}
    title = (
        f"{len(trials)} trial{'s' if len(trials) != 1 else ''}, {len(running - stopped)} running"
    )
    if stopped:
        title += f", {len(stopped)} stopped"
    return title, trial_table(trials, stopped), bool(held)


def _rich_table(title: str, lines: list[list[str]], *, whole: bool) -> Table:
    """The table, with the settings in one column: a terminal is too narrow for one each.

    Args:
        title: Its title.
        lines: Its lines, the header first.
        whole: Wrap the settings, else each trial has one line.
    """
    table = Table(title=escape(title), title_justify="left", expand=True)
    cells = [line[: len(_COLUMNS)] for line in lines[1:]]
    for name, *column in zip(_COLUMNS, *cells, strict=True):
        table.add_column(name, no_wrap=True, min_width=max(map(len, [name, *column])))
    table.add_column(
        "settings", no_wrap=not whole, overflow="fold" if whole else "ellipsis", ratio=1
    )
    for line, row in zip(lines[1:], cells, strict=True):
        pairs = zip(lines[0], line, strict=True)
        settings = [f"{name}={value}" for name, value in pairs if name not in _COLUMNS]
        table.add_row(*map(escape, [*row, " ".join(settings)]))
    return table
