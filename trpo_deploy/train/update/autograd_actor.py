"""The actor of any policy, differentiated by autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from trpo_deploy.train.update.flat import flat_gradient
from trpo_deploy.train.update.kl import KLReduction, mean_kl
from trpo_deploy.train.update.samples import map_arrays


class AutogradActor:
    """:class:`~trpo_deploy.train.update.actor.Actor` for any policy.

    Args:
        policy: The policy.
        observations: Observations as the policy takes them, ``(batch, ...)`` or a dict of these.
    """

    def __init__(self, policy: ActorCriticPolicy, observations: Any) -> None:
        self._policy = policy
        self._observations = observations
        self._last: Distribution | None = None
        self._parameters: list[nn.Parameter] | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that the KL depends on; found by :meth:`fisher_vector_product`."""
        assert self._parameters is not None, "call fisher_vector_product first"
        return self._parameters

    def distribution(self) -> Distribution:
        """Action distribution at the current parameters, in the policy's own object."""
        self._last = self._policy.get_distribution(self._observations)
        return self._last

    def fisher_vector_product(
        self, old: Distribution, reduction: KLReduction, damping: float, rows: Any = None
    ) -> Callable[[Tensor], Tensor]:
        """``v -> (F + damping I) v``; see :class:`~trpo_deploy.train.update.actor.Actor`."""
        if rows is not None:
            observations = map_arrays(itemgetter(rows), self._observations)
            with torch.no_grad():
                old = copy.copy(self._policy.get_distribution(observations))
            new = self._policy.get_distribution(observations)
        else:
            assert self._last is not None
            new = self._last
        self._parameters, kl_gradient = actor_parameters(mean_kl(new, old, reduction), self._policy)
        return hessian_vector_product(kl_gradient, self._parameters, damping)

    def gradient(self, objective: Tensor) -> Tensor:
        """Flat gradient of a scalar computed from the last distribution."""
        return flat_gradient(objective, self.parameters, keep_graph=True)


def actor_parameters(kl: Tensor, policy: nn.Module) -> tuple[list[nn.Parameter], Tensor]:
    """Find the parameters that the action distribution depends on.

    A parameter belongs to the actor if and only if the KL has a gradient for it, whatever its
    name.

    Args:
        kl: Mean KL, a scalar with its graph.
        policy: The module to search, in the order of its parameters.

    Returns:
        The parameters, and the KL's flat gradient with a graph for second derivatives.
    """
    candidates = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(kl, candidates, create_graph=True, allow_unused=True)
    found = [
        (parameter, gradient)
        for parameter, gradient in zip(candidates, gradients, strict=True)
        if gradient is not None
    ]
    flat = torch.cat([gradient.reshape(-1) for _, gradient in found])
    return [parameter for parameter, _ in found], flat


def hessian_vector_product(
    gradient: Tensor, parameters: Sequence[nn.Parameter], damping: float
) -> Callable[[Tensor], Tensor]:
    """``v -> (H + damping I) v``, by double backward.

    Args:
        gradient: Flat gradient of a scalar, with its graph; H is the scalar's Hessian.
        parameters: The parameters that the gradient was taken for.
        damping: Added to the diagonal.
    """

    def product(vector: Tensor) -> Tensor:
        second = flat_gradient((gradient * vector).sum(), parameters, keep_graph=True)
        return second + damping * vector

    return product
