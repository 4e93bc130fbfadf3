"""The standard MLP actor-critic, with its derivatives written out.

Most policies are two small dense networks on flat features. For these the products that an
update consists of need no autograd: :class:`DenseNetwork` has the forward pass, the product
with its Jacobian and the product with the transpose. :func:`standard_mlp` is the one place
where it is decided whether a policy is of this kind; all others take the generic path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import Tensor, nn

from trpo_deploy.policies import SquashedMlpPolicy
from trpo_deploy.spec import Array


@dataclass(frozen=True)
class Activation:
    """An element-wise function whose slope follows from its value."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    """The derivative, given what :attr:`value` returned."""
    array: Callable[[Array], Array]
    """:attr:`value` in NumPy."""


def _activation(module: nn.Module) -> Activation | None:
    if type(module) is nn.Tanh:
        return Activation(torch.tanh, lambda h: 1 - h * h, np.tanh)
    if type(module) is nn.ReLU:
        return Activation(
            torch.relu, lambda h: (h > 0).to(h.dtype), lambda z: np.maximum(z, np.float32(0))
        )
    if type(module) is nn.Sigmoid:
        # (1 + tanh(z / 2)) / 2 does not overflow.
        half = np.float32(0.5)
        return Activation(
            torch.sigmoid, lambda h: h * (1 - h), lambda z: half * (1 + np.tanh(half * z))
        )
    if type(module) is nn.ELU:
        alpha = module.alpha
        return Activation(
            lambda z: nn.functional.elu(z, alpha),
            lambda h: torch.where(h > 0, torch.ones_like(h), h + alpha),
            lambda z: np.where(z > 0, z, np.float32(alpha) * np.expm1(np.minimum(z, 0))),
        )
    if type(module) is nn.LeakyReLU:
        leak = module.negative_slope
        return Activation(
            lambda z: nn.functional.leaky_relu(z, leak),
            lambda h: torch.where(h > 0, 1.0, leak).to(h.dtype),
            lambda z: np.where(z > 0, z, np.float32(leak) * z),
        )
    return None


@dataclass(frozen=True, eq=False)
class DenseNetwork:
    """``x -> W_n phi(... phi(W_1 x + b_1) ...) + b_n``, on the parameters of torch modules."""

    linears: tuple[nn.Linear, ...]
    activations: tuple[Activation, ...]
    """One behind each layer but the last."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Weight and bias of each layer, in order."""
        return [parameter for linear in self.linears for parameter in linear.parameters()]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The input of each layer, and last the output. ``x`` is ``(batch, features)``."""
        values = [x]
        for linear, activation in zip(self.linears, (*self.activations, None), strict=True):
            z = torch.addmm(linear.bias, values[-1], linear.weight.t())
            values.append(z if activation is None else activation.value(z))
        return values

    def slopes(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The activations' derivatives at what :meth:`forward` returned."""
        return [
            activation.slope(value)
            for activation, value in zip(self.activations, values[1:-1], strict=True)
        ]

    def jacobian_product(
        self, values: Sequence[Tensor], slopes: Sequence[Tensor], direction: Sequence[Tensor]
    ) -> Tensor:
        """How the output moves when the parameters move in a direction.

        Args:
            values: of :meth:`forward`.
            slopes: of :meth:`slopes`.
            direction: shaped as :attr:`parameters`.

        Returns:
            ``J v``, of the output's shape.
        """
        moved: Tensor | None = None
        for index, linear in enumerate(self.linears):
            weight, bias = direction[2 * index], direction[2 * index + 1]
            change = torch.addmm(bias, values[index], weight.t())
            if moved is not None:
                change.addmm_(moved, linear.weight.t())
            moved = change if index == len(slopes) else change.mul_(slopes[index])
        assert moved is not None
        return moved

    def transposed_product(
        self,
        values: Sequence[Tensor],
        slopes: Sequence[Tensor],
        output: Tensor,
        gradients: Sequence[Tensor],
    ) -> None:
        """``J^T u``: the gradient of ``sum(output * u)``, written into ``gradients``.

        Args:
            values: of :meth:`forward`.
            slopes: of :meth:`slopes`.
            output: ``u``, of the output's shape.
            gradients: tensors shaped as :attr:`parameters`, overwritten.
        """
        for index in reversed(range(len(self.linears))):
            torch.mm(output.t(), values[index], out=gradients[2 * index])
            torch.sum(output, dim=0, out=gradients[2 * index + 1])
            if index > 0:
                output = torch.mm(output, self.linears[index].weight).mul_(slopes[index - 1])


@dataclass(frozen=True, eq=False)
class StandardMlp:
    """An actor and a critic that share no parameters, and the actor's distribution."""

    actor: DenseNetwork
    critic: DenseNetwork
    log_std: nn.Parameter | None
    """Of a Gaussian; the other distributions have none."""

    @property
    def actor_parameters(self) -> list[nn.Parameter]:
        """As :func:`~trpo_deploy.train.trust_region.actor_parameters` finds them."""
        return [*([] if self.log_std is None else [self.log_std]), *self.actor.parameters]


_DISTRIBUTIONS = (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)


def standard_mlp(policy: ActorCriticPolicy) -> StandardMlp | None:
    """The policy as two dense networks, or None if it is, or may be, anything else."""
    plain = (
        type(policy) in (ActorCriticPolicy, SquashedMlpPolicy)
        and type(policy.mlp_extractor) is MlpExtractor
        and type(policy.pi_features_extractor) is FlattenExtractor
        and type(policy.vf_features_extractor) is FlattenExtractor
        and type(policy.action_dist) in _DISTRIBUTIONS
        and type(policy.action_net) is nn.Linear
    )
    if not plain:
        return None
    actor = _dense([*policy.mlp_extractor.policy_net, policy.action_net])
    critic = _dense([*policy.mlp_extractor.value_net, policy.value_net])
    if actor is None or critic is None:
        return None
    gaussian = type(policy.action_dist) is DiagGaussianDistribution
    found = StandardMlp(actor, critic, policy.log_std if gaussian else None)
    known = {id(p) for p in (*found.actor_parameters, *critic.parameters)}
    if known != {id(p) for p in policy.parameters() if p.requires_grad}:
        return None
    return found


def _dense(modules: Sequence[nn.Module]) -> DenseNetwork | None:
    """Linear layers with one known activation between two of them, or None."""
    linears = [module for module in modules[::2] if type(module) is nn.Linear]
    activations = [_activation(module) for module in modules[1::2]]
    if len(linears) != len(modules[::2]) or any(linear.bias is None for linear in linears):
        return None
    known = tuple(activation for activation in activations if activation is not None)
    return DenseNetwork(tuple(linears), known) if len(known) == len(activations) else None
