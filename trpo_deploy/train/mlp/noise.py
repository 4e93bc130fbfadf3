"""Random numbers of a whole rollout, drawn as torch would draw them step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from trpo_deploy.spec.spaces import Array


def normal_noise(n_steps: int, shape: tuple[int, ...]) -> Array:
    """Standard normal numbers, ``(n_steps, *shape)``, equal to one draw for each step."""
    size = math.prod(shape)
    if size < 16:
        # Torch draws so few numbers one by one, and does the same for numbers that are not
        # contiguous. So one call gives the numbers of all steps, in a fifth of the time or less.
        apart = torch.empty(n_steps, size + 1)[:, :size]
        return apart.normal_().reshape(n_steps, *shape).numpy()
    (noise,) = _drawn(Tensor.normal_, [(n_steps, *shape)])
    return noise


def categorical_draw(
    n_steps: int, n_envs: int, sizes: Sequence[int]
) -> Callable[[int, Array], Array]:
    """Categorical samples equal to those of ``torch.multinomial``.

    It draws an exponential clock for each category, and the first clock to ring wins. The time of
    a clock with mean ``1 / p`` has the logarithm ``log t - log p``, with t of mean 1. A constant
    added to all logits changes nothing, but in float32 it could leave no significant digits.

    Args:
        n_steps: Number of steps to draw clocks for.
        n_envs: Number of environments.
        sizes: Number of categories of each part of the action.

    Returns:
        A function from a step and its logits, ``(n_envs, sum(sizes))``, to the samples,
        ``(n_envs, len(sizes))``.
    """
    clocks = _drawn(Tensor.exponential_, [(n_steps, n_envs, n) for n in sizes])
    times = np.log(np.concatenate(clocks, axis=2))
    cuts = np.cumsum(sizes)[:-1].tolist()

    def draw(step: int, logits: Array) -> Array:
        ahead = np.subtract(logits, times[step], dtype=np.float64)
        parts = np.split(ahead, cuts, axis=1) if cuts else [ahead]
        return np.stack([part.argmax(axis=1) for part in parts], axis=1)

    return draw


def _drawn(fill: Callable[[Tensor], object], shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Random numbers of each shape, ``(steps, ...)``, in the order of the steps' draws."""
    tensors = [torch.empty(shape) for shape in shapes]
    for step in zip(*tensors, strict=True):
        for part in step:
            fill(part)
    return [tensor.numpy() for tensor in tensors]
