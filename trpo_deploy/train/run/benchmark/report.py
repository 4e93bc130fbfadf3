"""Writes the results of a benchmark: learning curves and tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.train.run.benchmark.results import TaskResult
from trpo_deploy.train.run.benchmark.tables import write_tables
from trpo_deploy.train.run.plots import benchmark_curves

_HEADER = (
    *("task", "seeds", "final mean", "final std", "95 % CI of the mean"),
    *("best mean", "best std", "IQM", "95 % CI of the IQM"),
)


def write_report(results: Sequence[TaskResult], output: Path) -> None:
    """Write ``curves.png`` and the table as ``table.md``, ``table.csv`` and ``table.tex``."""
    curves = [(result.env_id, result.timesteps, result.returns) for result in results]
    atomic_write(output / "curves.png", benchmark_curves(curves))
    rows = [_row(result) for result in results]
    write_tables(output / "table", [_HEADER, *rows])


def _row(result: TaskResult) -> list[str]:
    middle, *around_middle = result.iqm()
    return [
        result.env_id,
        str(len(result.returns)),
        *(f"{number:.0f}" for number in (result.final.mean(), result.final.std())),
        _interval(*result.mean_interval()),
        *(f"{number:.0f}" for number in (result.best.mean(), result.best.std(), middle)),
        _interval(*around_middle),
    ]


def _interval(low: float, high: float) -> str:
    return "" if np.isnan(low) else f"[{low:.0f}, {high:.0f}]"
