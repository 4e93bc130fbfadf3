"""Random numbers of a whole rollout, drawn as torch would draw them step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.distributed.randomness import shared_randomness
from trpo_deploy.train.distributed.world import world


def reset_noise(policy: ActorCriticPolicy, n_envs: int) -> None:
    """Draw gSDE's noise matrices, for the environments of all ranks, and keep this rank's.

    Args:
        policy: A policy with gSDE.
        n_envs: Number of environments of each rank.
    """
    ranks = world()
    with shared_randomness():
        policy.reset_noise(n_envs * ranks.size)
    if ranks.size > 1:
        distribution: Any = policy.action_dist
        own = distribution.exploration_matrices[ranks.rows(n_envs)]
        distribution.exploration_matrices = own
        if n_envs == 1:  # SB3 then takes the matrix that it has for a single observation
            distribution.exploration_mat = own[0]


def normal_noise(n_steps: int, shape: tuple[int, ...]) -> Array:
    """Standard normal numbers, ``(n_steps, *shape)``, equal to one draw for each step.

    With several ranks the first axis of ``shape`` is of this rank's environments; the numbers are
    drawn for those of all ranks.
    """
    n_envs = shape[0]
    with shared_randomness():
        drawn = _normal_noise(n_steps, (n_envs * world().size, *shape[1:]))
    return drawn[:, world().rows(n_envs)]


def _normal_noise(n_steps: int, shape: tuple[int, ...]) -> Array:
    size = math.prod(shape)
    if size < 16:
        # Torch draws so few numbers one by one, and does the same for numbers that are not
        # contiguous. So one call gives the numbers of all steps, in a fifth of the time or less.
        apart = torch.empty(n_steps, size + 1, dtype=torch.float32)[:, :size]
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
        n_envs: Number of environments of this rank.
        sizes: Number of categories of each part of the action.

    Returns:
        A function from a step and its logits, ``(n_envs, sum(sizes))``, to the samples,
        ``(n_envs, len(sizes))``.
    """
    with shared_randomness():
        shapes = [(n_steps, n_envs * world().size, n) for n in sizes]
        clocks = _drawn(Tensor.exponential_, shapes)
    times = np.log(np.concatenate(clocks, axis=2)[:, world().rows(n_envs)])
    cuts = np.cumsum(sizes)[:-1].tolist()

    def draw(step: int, logits: Array) -> Array:
        ahead = np.subtract(logits, times[step], dtype=np.float64)
        parts = np.split(ahead, cuts, axis=1) if cuts else [ahead]
        return np.stack([part.argmax(axis=1) for part in parts], axis=1)

    return draw


def bernoulli_draw(logits: Array) -> Array:
    """Samples of 0 and 1 with these logits, ``(n_envs, n)``; drawn for all ranks' environments."""
    probabilities = torch.from_numpy(logits).sigmoid()
    ranks = world()
    if ranks.size == 1:
        return torch.bernoulli(probabilities).numpy()
    rows = ranks.rows(len(logits))
    of_all = probabilities.new_zeros(len(logits) * ranks.size, logits.shape[1])
    of_all[rows] = probabilities
    with shared_randomness():
        return torch.bernoulli(of_all)[rows].numpy()


def _drawn(fill: Callable[[Tensor], object], shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Random numbers of each shape, ``(steps, ...)``, in the order of the steps' draws."""
    tensors = [torch.empty(shape, dtype=torch.float32) for shape in shapes]
    for step in zip(*tensors, strict=True):
        for part in step:
            fill(part)
    return [tensor.numpy() for tensor in tensors]
