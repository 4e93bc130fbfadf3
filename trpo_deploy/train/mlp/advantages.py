"""Generalised advantage estimates of a whole rollout."""

from __future__ import annotations

import numpy as np

from trpo_deploy.spec.spaces import Array


def generalized_advantages(
    rewards: Array, values: Array, ends: Array, gamma: float, gae_lambda: float
) -> Array:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16, arXiv:1506.02438).

    Equal to ``RolloutBuffer.compute_returns_and_advantage`` up to rounding.

    Args:
        rewards: ``(steps, envs)``.
        values: Values of the observations, and of the one after the last step,
            ``(steps + 1, envs)``.
        ends: Whether the episode ended with the step, ``(steps, envs)``.
        gamma: Discount factor.
        gae_lambda: From one-step advantages (0) to those of the full return (1).

    Returns:
        ``(steps, envs)``.
    """
    alive = np.float32(1.0) - ends.astype(np.float32)
    advantages = rewards + np.float32(gamma) * alive * values[1:] - values[:-1]
    decay = np.float32(gamma * gae_lambda) * alive
    # Sums over 1, 2, 4 ... steps, each from two sums of half the length, instead of a loop.
    steps, length = len(advantages), 1
    with np.errstate(under="ignore", invalid="ignore"):  # the update refuses non-finite values
        while length < steps:
            advantages[:-length] += decay[: steps - length] * advantages[length:]
            decay = decay[:-length] * decay[length:]
            length *= 2
    return np.asarray(advantages)
