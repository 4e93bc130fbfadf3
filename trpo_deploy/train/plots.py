"""Pictures of a run."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from trpo_deploy.spec import Array


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
