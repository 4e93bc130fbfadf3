"""The critic's regression on the returns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn
from torch.nn import functional


def fit_critic(
    policy: ActorCriticPolicy,
    buffer: RolloutBuffer,
    frozen: Sequence[nn.Parameter],
    n_updates: int,
    batch_size: int,
) -> list[float]:
    """Mini-batch regression of the value function on the rollout's returns.

    Args:
        policy: its critic is changed, through its optimiser.
        buffer: a full rollout with returns.
        frozen: the actor's parameters. What actor and critic share learns from the policy
            step alone, or the trust region would not hold.
        n_updates: passes over the rollout.
        batch_size: samples of a mini-batch.

    Returns:
        The loss of each mini-batch. A loss that is not finite is recorded, its step is not
        taken, and the fit ends.
    """
    losses: list[float] = []
    for _ in range(n_updates):
        for batch in buffer.get(batch_size):
            values = policy.predict_values(batch.observations)
            loss = functional.mse_loss(batch.returns, values.flatten())
            losses.append(loss.item())
            if not torch.isfinite(loss):
                return losses
            policy.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for parameter in frozen:
                parameter.grad = None
            policy.optimizer.step()
    return losses
