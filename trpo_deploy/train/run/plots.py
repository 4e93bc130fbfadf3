"""Learning curves as PNG images."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from trpo_deploy.envs.returns import return_digits
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
            f"best {mean[best]:{return_digits(mean[best])}}",
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


def comparison(
    curves: Mapping[str, Mapping[str, tuple[Array, Array]]],
    improvement: Mapping[str, tuple[float, float, float]],
) -> bytes:
    """Plot learning curves of several settings in one panel for each task, and how they compare.

    A curve is the interquartile mean over the seeds with its pointwise 95 % bootstrap interval.

    Args:
        curves: By task and settings, the steps before each evaluation, shape ``(evaluations,)``,
            and the mean returns, shape ``(seeds, evaluations)``.
        improvement: By settings, the probability that they are better than the first ones, and
            the bounds of its interval.

    Returns:
        The content of a PNG file.
    """
    n = len(curves) + 1
    columns = min(n, 5)
    rows = -(-n // columns)
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(3.4 * columns, 2.8 * rows + 0.4), layout="constrained")
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, (env_id, of_task) in zip(grid, curves.items(), strict=False):
            for name, (timesteps, returns) in of_task.items():
                low, high = iqm_band(returns)
                axes.fill_between(timesteps, low, high, alpha=0.2, linewidth=0)
                axes.plot(timesteps, iqm(returns), label=name)
            _format_steps(axes)
            axes.set_title(env_id, fontsize=10)
            axes.set_xlabel("environment steps", fontsize=8)
            axes.grid(alpha=0.3)
        _plot_improvement(grid[n - 1], improvement, next(iter(next(iter(curves.values())))))
        for axes in grid[n:]:
            axes.set_axis_off()
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
        figure.supylabel("return (IQM over seeds, 95 % interval)", fontsize=10)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _plot_improvement(
    axes: Axes, improvement: Mapping[str, tuple[float, float, float]], base: str
) -> None:
    axes.axvline(0.5, color="gray", linewidth=1)
    for i, (value, low, high) in enumerate(improvement.values()):
        color = f"C{i + 1}"  # that of its curve; the first curve is the base
        axes.plot([low, high], [i, i], color=color, linewidth=3, alpha=0.5)
        axes.plot([value], [i], "o", color=color)
    axes.set_yticks(range(len(improvement)), list(improvement))
    axes.set(xlim=(-0.02, 1.02), ylim=(len(improvement) - 0.5, -0.5))
    axes.set_title(f"P(better than {base})", fontsize=10)


def iqm(returns: Array) -> Array:
    """Interquartile mean over the seeds.

    Args:
        returns: Shape ``(seeds, evaluations)``.
    """
    # Not at the top: a run that draws its learning curve need not wait a second for scipy.
    from scipy.stats import trim_mean

    mean: Array = trim_mean(returns, 0.25, axis=0)
    return mean


def iqm_band(returns: Array) -> tuple[Array, Array]:
    """Pointwise 95 % bootstrap interval of the interquartile mean over the seeds.

    Args:
        returns: Shape ``(seeds, evaluations)``.
    """
    rng = np.random.default_rng(0)
    resamples = rng.integers(len(returns), size=(500, len(returns)))
    means = np.array([iqm(returns[each]) for each in resamples])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return low, high


def band(returns: Array, axis: int) -> tuple[Array, Array]:
    """Mean ± standard deviation along an axis, within the values that occur."""
    mean, std = returns.mean(axis=axis), returns.std(axis=axis)
    return (
        np.maximum(mean - std, returns.min(axis=axis)),
        np.minimum(mean + std, returns.max(axis=axis)),
    )
