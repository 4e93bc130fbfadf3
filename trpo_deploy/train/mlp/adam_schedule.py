"""Mini-batches of a regression and the step sizes of Adam, as inputs of the ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from trpo_deploy.spec.spaces import Array


def adam_schedule(
    adam: torch.optim.Optimizer, steps: float, size: int, rows: int, n_updates: int
) -> dict[str, Array]:
    """Bounds and step size of each mini-batch.

    Adam (Kingma and Ba 2015, algorithm 1, arXiv:1412.6980) divides running means, which are
    ``1 - beta`` times a decaying sum. The graph carries the sums, which takes two operations less;
    the factors go into the step size and into epsilon.

    Args:
        adam: The optimizer.
        steps: Number of steps that it has made.
        size: Number of samples.
        rows: Maximum number of samples in a mini-batch.
        n_updates: Passes over the samples.
    """
    group = adam.param_groups[0]
    beta1, beta2 = group["betas"]
    start = np.arange(0, size, rows)
    end = np.minimum(start + rows, size)
    passes = size * np.arange(n_updates)[:, None]
    step = steps + 1 + np.arange(n_updates * len(start))
    scale = np.sqrt((1 - beta2**step) / (1 - beta2))
    return {
        "start": (passes + start).reshape(-1, 1),
        "end": (passes + end).reshape(-1, 1),
        "two_over_rows": _float32(np.tile(2 / (end - start), n_updates)),
        "length": _float32(group["lr"] * scale * (1 - beta1) / (1 - beta1**step)),
        "eps": _float32(group["eps"] * scale),
        "beta1": _float32(beta1),
        "beta2": _float32(beta2),
    }


def _float32(value: Any) -> Array:
    return np.asarray(value, np.float32)
