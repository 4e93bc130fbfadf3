"""Writes the results of a benchmark: learning curves and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.train.run.benchmark.results import TaskResult
from trpo_deploy.train.run.plots import benchmark_curves

_HEADER = ("task", "seeds", "final mean", "final std", "best mean", "best std", "IQM", "95 % CI")


def write_report(results: Sequence[TaskResult], output: Path) -> None:
    """Write ``curves.png`` and the table as ``table.md``, ``table.csv`` and ``table.tex``."""
    curves = [(result.env_id, result.timesteps, result.returns) for result in results]
    atomic_write(output / "curves.png", benchmark_curves(curves))
    rows = [_row(result) for result in results]
    atomic_write(output / "table.md", _markdown(rows))
    atomic_write(output / "table.csv", _csv(rows))
    atomic_write(output / "table.tex", _latex(rows))


def _row(result: TaskResult) -> list[str]:
    middle, low, high = result.iqm()
    numbers = (
        result.final.mean(),
        result.final.std(),
        result.best.mean(),
        result.best.std(),
        middle,
    )
    interval = "" if np.isnan(low) else f"[{low:.0f}, {high:.0f}]"
    return [
        result.env_id,
        str(len(result.returns)),
        *(f"{number:.0f}" for number in numbers),
        interval,
    ]


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [_HEADER, ["---"] * len(_HEADER), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_HEADER, *rows])
    return text.getvalue()


def _latex(rows: Sequence[Sequence[str]]) -> str:
    """The table for LaTeX's booktabs package."""
    lines = [" & ".join(map(_escape, line)) for line in (_HEADER, *rows)]
    body = " \\\\\n".join(lines[1:])
    columns = "l" + "r" * (len(_HEADER) - 1)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{lines[0]} \\\\\n\\midrule\n{body} \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def _escape(text: str) -> str:
    return text.replace("%", r"\%").replace("_", r"\_")
