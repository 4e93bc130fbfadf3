"""The critic's regression on the returns."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.nn import functional

NOT_FINITE = "the critic's loss or gradient is not finite"


@dataclass(frozen=True)
class CriticFit:
    """What a regression came to."""

    loss: float
    """Mean over its mini-batches."""
    refusal: str | None
    """Why it is not to be used, or None."""


def fit_critic(
    policy: ActorCriticPolicy,
    buffer: RolloutBuffer,
    frozen: Sequence[nn.Parameter],
    n_updates: int,
    batch_size: int | None,
    max_grad_norm: float | None = None,
) -> CriticFit:
    """Mini-batch regression of the value function on the rollout's returns.

    After a fit that is not to be used the optimiser is as it was before, and the policy's
    parameters are for the caller to put back.

    Mirrors the critic's part of ``sb3_contrib.TRPO.train``.

    Args:
        policy: its critic is changed, through its optimiser.
        buffer: a full rollout with returns, read before, which puts its samples into one row.
        frozen: the actor's parameters. What actor and critic share learns from the policy
            step alone, or the trust region would not hold.
        n_updates: passes over the rollout.
        batch_size: samples of a mini-batch; None for the whole rollout.
        max_grad_norm: gradients are scaled down to this norm.
    """
    is_frozen = {id(parameter) for parameter in frozen}
    learning = [each for each in policy.parameters() if id(each) not in is_frozen]
    optimizer_before = copy.deepcopy(policy.optimizer.state_dict())
    losses = []
    for observations, returns in _mini_batches(buffer, n_updates, batch_size):
        values = policy.predict_values(observations)
        loss = functional.mse_loss(returns, values.flatten())
        losses.append(loss.detach())  # as a number it would have to be waited for, on a GPU
        policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for parameter in frozen:
            parameter.grad = None
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(learning, max_grad_norm)
        policy.optimizer.step()
    mean_loss = float(np.mean(torch.stack(losses).tolist())) if losses else 0.0
    # One look at the end: a number that is not finite stays so through all later steps. A moment
    # of the optimiser may be infinite where no parameter is, and then nothing is learnt any more.
    if math.isfinite(mean_loss) and _all_finite([*learning, *_moments(policy.optimizer)]):
        return CriticFit(mean_loss, None)
    policy.optimizer.load_state_dict(optimizer_before)
    return CriticFit(float("nan"), NOT_FINITE)


def _mini_batches(
    buffer: RolloutBuffer, n_updates: int, batch_size: int | None
) -> Iterator[tuple[Any, Tensor]]:
    """Observations and returns, as so many calls of ``buffer.get`` give them."""
    own = type(buffer) in (RolloutBuffer, DictRolloutBuffer)  # a user's may give others
    if own and buffer.device.type != "cpu":
        yield from _mini_batches_on_device(buffer, n_updates, batch_size)
        return
    for _ in range(n_updates):
        for batch in buffer.get(batch_size):
            yield batch.observations, batch.returns


def _mini_batches_on_device(
    buffer: RolloutBuffer, n_updates: int, batch_size: int | None
) -> Iterator[tuple[Any, Tensor]]:
    """The same, from samples that go to the buffer's device once, and not once a pass."""
    observations = of_each(buffer.to_torch, buffer.observations)
    all_returns = buffer.to_torch(buffer.returns).flatten()
    size = len(all_returns)
    for _ in range(n_updates):
        order = torch.as_tensor(np.random.permutation(size), device=buffer.device)
        for rows in torch.split(order, batch_size or size):
            yield of_each(itemgetter(rows), observations), all_returns[rows]


def of_each(function: Callable[[Any], Any], observations: Any) -> Any:
    """Of an array, or of each array of a Dict of them."""
    if isinstance(observations, dict):
        return {key: function(part) for key, part in observations.items()}
    return function(observations)


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every number in them is."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _moments(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    states = optimizer.state.values()
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]
