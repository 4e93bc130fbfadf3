"""Compares the settings of a benchmark: one table and one plot.

The formulas are those of Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264), which the library
``rliable`` implements: the interquartile mean, the probability of improvement, and percentile
bootstrap intervals with resamples within each task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from trpo_deploy.envs.returns import return_digits
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.run.benchmark.results import TaskResult
from trpo_deploy.train.run.benchmark.tables import write_tables
from trpo_deploy.train.run.benchmark.variants import DEFAULT
from trpo_deploy.train.run.plots import comparison

_N_RESAMPLES = 2000

Results = Mapping[str, Sequence[TaskResult]]
"""For each variant, :data:`DEFAULT` first, its results of the same tasks in the same order."""
Interval = tuple[float, float, float]
"""A value and the bounds of its 95 % interval; the bounds are NaN with a single seed."""


def probability_of_improvement(ours: Sequence[Array], theirs: Sequence[Array]) -> Interval:
    """Probability that a run of ours beats one of theirs on a task drawn at random.

    The mean over tasks of the share of pairs of runs that ours wins; ties count half
    (Agarwal et al. 2021, section 4.3).

    Args:
        ours: For each task the returns, ``(seeds,)``.
        theirs: Likewise, of the same tasks; the number of seeds may differ.
    """
    value = float(np.mean([_wins(*task) for task in zip(ours, theirs, strict=True)]))
    if min(len(each) for each in (*ours, *theirs)) < 2:
        return value, float("nan"), float("nan")
    rng = np.random.default_rng(0)
    resampled = [
        _wins(_resampled(one, rng), _resampled(other, rng))
        for one, other in zip(ours, theirs, strict=True)
    ]
    low, high = np.percentile(np.mean(resampled, axis=0), [2.5, 97.5])
    return value, float(low), float(high)


def _wins(ours: Array, theirs: Array) -> Array:
    """Share of pairs that ours wins, over the last axis."""
    one, other = ours[..., :, np.newaxis], theirs[..., np.newaxis, :]
    share: Array = ((one > other) + 0.5 * (one == other)).mean(axis=(-2, -1))
    return share


def _resampled(returns: Array, rng: np.random.Generator) -> Array:
    chosen: Array = returns[rng.integers(len(returns), size=(_N_RESAMPLES, len(returns)))]
    return chosen


def write_comparison(results: Results, output: Path) -> None:
    """Write ``comparison.png`` and the table as ``comparison.md``, ``.csv`` and ``.tex``."""
    base = results[DEFAULT]
    lines = [_header()]
    for i, task in enumerate(base):
        for name, variant in results.items():
            better = None if name == DEFAULT else _improvement([variant[i]], [task])
            lines.append(_row(name, variant[i], better))
    overall = {
        name: _improvement(variant, base) for name, variant in results.items() if name != DEFAULT
    }
    if len(base) > 1:
        lines += [["all", name, *[""] * 4, *_cells(each, ".2f")] for name, each in overall.items()]
    write_tables(output / "comparison", lines)
    curves = {
        task.env_id: {
            name: (variant[i].timesteps, variant[i].returns) for name, variant in results.items()
        }
        for i, task in enumerate(base)
    }
    atomic_write(output / "comparison.png", comparison(curves, overall))


def _improvement(ours: Sequence[TaskResult], theirs: Sequence[TaskResult]) -> Interval:
    return probability_of_improvement([each.final for each in ours], [t.final for t in theirs])


def _header() -> list[str]:
    better = f"P(better than {DEFAULT})"
    return ["task", "settings", "seeds", "mean", "IQM", "95 % CI", better, "95 % CI of P"]


def _row(name: str, result: TaskResult, better: Interval | None) -> list[str]:
    final = result.final
    digits = return_digits(
        float(final.mean()), float(final.std()), float(final.min()), float(final.max())
    )
    mean, seeds = f"{final.mean():{digits}}", str(len(final))
    last = ["", ""] if better is None else _cells(better, ".2f")
    return [result.env_id, name, seeds, mean, *_cells(result.iqm(), digits), *last]


def _cells(interval: Interval, digits: str) -> list[str]:
    value, low, high = interval
    bounds = "" if np.isnan(low) else f"[{low:{digits}}, {high:{digits}}]"
    return [f"{value:{digits}}", bounds]
