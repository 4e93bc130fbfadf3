"""Learning curves as PNG images."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from trpo_deploy.spec.spaces import Array


def learning_curve(env_id: str, timesteps: Array, returns: Array) -> bytes:
    """Plot the mean evaluation return over training steps, with its standard deviation.

    The band ends at the lowest and the highest return of each evaluation: beyond them may be
    returns that the environment cannot give.

    Args:
        env_id: Environment, for the title.
        timesteps: Steps before each evaluation, shape ``(evaluations,)``.
        returns: Returns of the episodes, shape ``(evaluations, episodes)``.

    Returns:
        The content of a PNG file.
    """
    mean = returns.mean(axis=1)
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.fill_between(timesteps, *band(returns, axis=1), alpha=0.2, linewidth=0)
        axes.plot(timesteps, mean, marker="o", markersize=3, clip_on=False)
        _format_steps(axes)
        best = int(np.argmax(mean))
        axes.annotate(
            f"best {mean[best]:.1f}",
            (timesteps[best], mean[best]),
            textcoords="offset points",
            xytext=(0, 6),
            ha="left" if timesteps[best] <= timesteps[-1] / 2 else "right",
        )
        axes.set(
            title=f"TRPO on {env_id}",
            xlabel="environment steps",
            ylabel=f"return (mean ± std of {returns.shape[1]} episodes)",
        )
        axes.grid(alpha=0.3)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def benchmark_curves(curves: Sequence[tuple[str, Array, Array]]) -> bytes:
    """Plot learning curves of several tasks, with mean and standard deviation over the seeds.

    The bands end at the lowest and the highest seed.

    Args:
        curves: For each task its id, the steps before each evaluation, shape ``(evaluations,)``,
            and the mean returns, shape ``(seeds, evaluations)``.

    Returns:
        The content of a PNG file.
    """
    columns = min(len(curves), 5)
    rows = -(-len(curves) // columns)
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(3.4 * columns, 2.8 * rows), layout="constrained")
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (env_id, timesteps, returns) in zip(grid, curves, strict=False):
            axes.fill_between(timesteps, *band(returns, axis=0), alpha=0.2, linewidth=0)
            axes.plot(timesteps, returns.mean(axis=0))
            _format_steps(axes)
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


def _format_steps(axes: Axes) -> None:
    """Start the horizontal axis at step 0 and write its numbers as 200k or 1M."""
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def band(returns: Array, axis: int) -> tuple[Array, Array]:
    """Mean ± standard deviation along an axis, within the values that occur."""
    mean, std = returns.mean(axis=axis), returns.std(axis=axis)
    return (
        np.maximum(mean - std, returns.min(axis=axis)),
        np.minimum(mean + std, returns.max(axis=axis)),
    )
