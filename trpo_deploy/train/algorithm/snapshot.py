"""State that a refused update restores: the policy, and the statistics of its rollout."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import chain
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from trpo_deploy.train.distributed.world import world


class PolicySnapshot:
    """Copies of a policy's parameters and of its layers' buffers, such as running statistics."""

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._policy = policy
        self._values = [tensor.detach().clone() for tensor in _tensors(policy)]

    @torch.no_grad()
    def restore(self) -> None:
        """Copy the values back into the policy."""
        for tensor, value in zip(_tensors(self._policy), self._values, strict=True):
            tensor.copy_(value)


@torch.no_grad()
def same_on_all_ranks(policy: ActorCriticPolicy) -> None:
    """Give all ranks the parameters of rank 0: on other hardware, sums round differently."""
    if world().size == 1:
        return
    tensors = list(policy.parameters())
    flat = parameters_to_vector(tensors)
    world().broadcast(flat)
    vector_to_parameters(flat, tensors)


def _tensors(policy: ActorCriticPolicy) -> Iterable[Tensor]:
    return chain(policy.parameters(), policy.buffers())


class NormalizerSnapshot:
    """Copies of the statistics that a rollout changes in a normalizer.

    Args:
        normalizer: The normalizer, or None; then there is nothing to restore.
    """

    def __init__(self, normalizer: VecNormalize | None) -> None:
        names = ("obs_rms", "ret_rms", "returns")
        self._values = {
            name: copy.deepcopy(getattr(normalizer, name))
            for name in names
            if hasattr(normalizer, name)
        }

    def restore(self, normalizer: VecNormalize | None) -> None:
        """Copy the statistics back into the normalizer."""
        if normalizer is None or not self._values:
            return
        for name in ("obs_rms", "ret_rms"):
            if name in self._values:
                _restore(getattr(normalizer, name), self._values[name])
        normalizer.returns = self._values["returns"]


def _restore(target: Any, source: Any) -> None:
    # In place: evaluation environments share these objects.
    if isinstance(source, dict):
        for key, part in source.items():
            _restore(target[key], part)
        return
    target.mean, target.var, target.count = source.mean, source.var, source.count
