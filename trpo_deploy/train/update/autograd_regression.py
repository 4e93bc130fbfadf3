"""The critic's regression for any policy, by autograd and the policy's optimizer."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.nn import functional

from trpo_deploy.train.update.actor import Actor
from trpo_deploy.train.update.as_written import is_as_written
from trpo_deploy.train.update.regression import NOT_FINITE, CriticFit, RegressionSettings
from trpo_deploy.train.update.samples import map_arrays


class AutogradRegression:
    """Mini-batch regression of the value function; it runs in :meth:`commit`.

    Mirrors the critic's part of ``sb3_contrib.TRPO.train``.

    Args:
        policy: The critic's policy.
        actor: Its parameters are frozen. What actor and critic share is trained by the policy
            step alone, or the trust region would not hold.
        buffer: A full rollout with returns, which :meth:`RolloutBuffer.get` has flattened.
        settings: How to step through the rollout.
    """

    def __init__(
        self,
        policy: ActorCriticPolicy,
        actor: Actor,
        buffer: RolloutBuffer,
        settings: RegressionSettings,
    ) -> None:
        self._policy = policy
        self._actor = actor
        self._buffer = buffer
        self._settings = settings

    def commit(self) -> CriticFit:
        """Run the regression; see :class:`~trpo_deploy.train.update.regression.Regression`."""
        policy, frozen = self._policy, self._actor.parameters
        is_frozen = {id(parameter) for parameter in frozen}
        trained = [each for each in policy.parameters() if id(each) not in is_frozen]
        optimizer_before = copy.deepcopy(policy.optimizer.state_dict())
        losses = []
        for observations, returns in mini_batches(self._buffer, self._settings):
            values = policy.predict_values(observations)
            loss = functional.mse_loss(returns, values.flatten())
            losses.append(loss.detach())  # reading the number here would wait for the GPU
            policy.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for parameter in frozen:
                parameter.grad = None
            if self._settings.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(trained, self._settings.max_grad_norm)
            policy.optimizer.step()
        mean_loss = float(np.mean(torch.stack(losses).tolist())) if losses else 0.0
        # One check at the end suffices: NaN and infinity survive all later steps. The optimizer's
        # moments may be infinite while the parameters are finite; then training has stopped.
        moments = _moments(policy.optimizer)
        if math.isfinite(mean_loss) and _all_finite([*trained, *moments]):
            return CriticFit(mean_loss, None)
        policy.optimizer.load_state_dict(optimizer_before)
        return CriticFit(math.nan, NOT_FINITE)

    def discard(self) -> None:
        """Nothing has run yet."""


def mini_batches(
    buffer: RolloutBuffer, settings: RegressionSettings
) -> Iterator[tuple[Any, Tensor]]:
    """Observations and returns of each mini-batch, in the order of ``buffer.get``."""
    known = is_as_written(buffer, RolloutBuffer, DictRolloutBuffer)
    if known and buffer.device.type != "cpu":
        yield from mini_batches_on_device(buffer, settings)
        return
    for _ in range(settings.n_updates):
        for batch in buffer.get(settings.batch_size):
            yield batch.observations, batch.returns


def mini_batches_on_device(
    buffer: RolloutBuffer, settings: RegressionSettings
) -> Iterator[tuple[Any, Tensor]]:
    """The same mini-batches; the samples are copied to the device once instead of each pass."""
    observations = map_arrays(buffer.to_torch, buffer.observations)
    all_returns = buffer.to_torch(buffer.returns).flatten()
    size = len(all_returns)
    for _ in range(settings.n_updates):
        order = torch.as_tensor(np.random.permutation(size), device=buffer.device)
        for rows in torch.split(order, settings.batch_size or size):
            yield map_arrays(itemgetter(rows), observations), all_returns[rows]


def _all_finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def _moments(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    states = optimizer.state.values()
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]
