"""``trpo-deploy benchmark``: learning curves and tables over tasks and seeds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from trpo_deploy.cli.compiled_note import say_once_if_not_compiled
from trpo_deploy.cli.interrupts import stoppable
from trpo_deploy.cli.options import count
from trpo_deploy.cli.output import escape, say, stdout_console
from trpo_deploy.extras import require


def benchmark(
    envs: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            metavar="ID",
            help="Environment id. Repeatable.",
            show_default="six MuJoCo tasks, -v4 and -v5",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs per task.")] = 3,
    timesteps: Annotated[
        int,
        typer.Option(
            "--timesteps", "-n", parser=count, metavar="N", help="Environment steps per run."
        ),
    ] = 1_000_000,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="[NAME:]KEY=VALUE",
            help="Setting as in train. With a name, of the settings to compare by that name. "
            "Repeatable.",
        ),
    ] = None,
    presets: Annotated[
        list[str] | None,
        typer.Option(
            "--preset",
            metavar="[NAME:]PRESET",
            help="Preset as in train, likewise. Repeatable.",
            show_default="the environment's",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Results folder; finished runs in it are kept.")
    ] = Path("benchmarks/results/returns"),
    processes: Annotated[
        int | None, typer.Option(min=1, help="Parallel runs.", show_default="one per CPU core")
    ] = None,
) -> None:
    """Train each task with several seeds; write learning curves and tables.

    With named settings, such as --set wide:target_kl=0.02, each task is trained
    with the default and with each name, and one table and one plot compare them.

    Run it again to resume an interrupted benchmark. Several at once with the
    same folder, on one machine or on several, divide the runs.
    """
    require("train")
    from trpo_deploy.train.run.benchmark.runner import MUJOCO
    from trpo_deploy.train.run.benchmark.runner import benchmark as run
    from trpo_deploy.train.run.benchmark.variants import parse_variants

    say_once_if_not_compiled(stdout_console())  # what its runs print is not shown
    processes = processes or os.cpu_count() or 1

    def report(line: str) -> None:
        say(escape(line))

    variants = parse_variants(presets or (), settings or ())
    with stoppable("stopped; run the same command again to resume"):
        run(envs or list(MUJOCO), seeds, timesteps, output, processes, report, variants)
    say((output / ("comparison.md" if len(variants) > 1 else "table.md")).read_text())
