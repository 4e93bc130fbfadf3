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

from trpo_deploy.train.distributed.part import WHOLE, Part, part_of
from trpo_deploy.train.distributed.world import world
from trpo_deploy.train.update.actor import Actor
from trpo_deploy.train.update.as_written import is_as_written
from trpo_deploy.train.update.regression import NOT_FINITE, CriticFit, RegressionSettings
from trpo_deploy.train.update.samples import flatten, map_arrays


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
        for observations, returns, part in mini_batches(self._buffer, self._settings):
            values = policy.predict_values(observations)
            loss = functional.mse_loss(returns, values.flatten())
            policy.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for parameter in frozen:
                parameter.grad = None
            # Reading the number here would wait for the GPU.
            losses.append(part.average_gradients(loss.detach(), trained))
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
) -> Iterator[tuple[Any, Tensor, Part]]:
    """Observations and returns of each mini-batch, in the order of ``buffer.get``.

    With several ranks, each has its own part of every mini-batch.
    """
    known = is_as_written(buffer, RolloutBuffer, DictRolloutBuffer)
    if world().size > 1:
        yield from mini_batches_over_ranks(buffer, settings)
    elif known and buffer.device.type != "cpu":
        for observations, returns in mini_batches_on_device(buffer, settings):
            yield observations, returns, WHOLE
    else:
        for _ in range(settings.n_updates):
            for batch in buffer.get(settings.batch_size):
                yield batch.observations, batch.returns, WHOLE


def mini_batches_over_ranks(
    buffer: RolloutBuffer, settings: RegressionSettings
) -> Iterator[tuple[Any, Tensor, Part]]:
    """This rank's part of the mini-batches of one process with all environments."""
    n_own = flatten(buffer)
    size = n_own * world().size
    batch_size = settings.batch_size or size
    for _ in range(settings.n_updates):
        order = np.random.permutation(size)
        for start in range(0, size, batch_size):
            part = part_of(order[start : start + batch_size], n_own)
            batch = buffer._get_samples(part.rows)
            yield batch.observations, batch.returns, part


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
