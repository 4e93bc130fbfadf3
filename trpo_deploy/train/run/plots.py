"""Pictures of a run."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from trpo_deploy.spec.spaces import Array


def learning_curve(env_id: str, timesteps: Array, returns: Array) -> bytes:
    """Mean evaluation return over training steps, with its spread, as a PNG.

    Args:
        env_id: for the title.
        timesteps: of the evaluations, ``(evaluations,)``.
        returns: of their episodes, ``(evaluations, episodes)``.
    """
    mean, std = returns.mean(axis=1), returns.std(axis=1)
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.fill_between(timesteps, mean - std, mean + std, alpha=0.2, linewidth=0)
        axes.plot(timesteps, mean, marker="o", markersize=3)
        best = int(np.argmax(mean))
        axes.annotate(
            f"best {mean[best]:.1f}",
            (timesteps[best], mean[best]),
            textcoords="offset points",
            xytext=(0, 6),
            ha="right",
        )
        axes.set(
            title=f"TRPO on {env_id}",
            xlabel="environment steps",
            ylabel=f"return of {returns.shape[1]} deterministic episodes (mean ± std)",
        )
        axes.grid(alpha=0.3)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def benchmark_curves(curves: Sequence[tuple[str, Array, Array]]) -> bytes:
    """Learning curves of several tasks, each with mean and spread over its seeds, as a PNG.

    Args:
        curves: of each task its id, the evaluations' timesteps ``(evaluations,)``, and their
            mean returns ``(seeds, evaluations)``.
    """
    columns = min(len(curves), 5)
    rows = -(-len(curves) // columns)
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(3.4 * columns, 2.8 * rows), layout="constrained")
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (env_id, timesteps, returns) in zip(grid, curves, strict=False):
            mean, std = returns.mean(axis=0), returns.std(axis=0)
            axes.fill_between(timesteps, mean - std, mean + std, alpha=0.2, linewidth=0)
            axes.plot(timesteps, mean)
            seeds = "1 seed" if len(returns) == 1 else f"{len(returns)} seeds"
            axes.set_title(f"{env_id} ({seeds})", fontsize=10)
            axes.grid(alpha=0.3)
        for axes in grid[len(curves) :]:
            axes.set_axis_off()
        figure.supxlabel("environment steps")
        figure.supylabel("return (mean ± std over seeds)")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
