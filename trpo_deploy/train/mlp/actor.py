"""The actor of a standard MLP over a batch, with its network's derivatives written out.

For a distribution with parameters z that a network gives, the Fisher matrix is
``E[J^T M J]``: J the network's Jacobian, M the Fisher matrix of the distribution in z (the
generalised Gauss-Newton form, exact for the KL at equality; Schulman et al. 2015, appendix
C.1). M is known in closed form, so a product costs one forward and one backward sweep over
cached activations. Autograd has what follows from the network's output and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from trpo_deploy.train.algorithm.trust_region import KLReduction
from trpo_deploy.train.mlp.network import DenseProducts, StandardMlp, network_input


class MlpActor:
    """Distribution, gradient and Fisher-vector product over one batch.

    The last two are of the parameters with which :meth:`distribution` was called last.

    Args:
        policy: whose distribution it is.
        mlp: the same policy as two networks.
        observations: as the policy takes them, ``(batch, ...)``.
    """

    def __init__(self, policy: ActorCriticPolicy, mlp: StandardMlp, observations: Tensor) -> None:
        with torch.no_grad():
            self._features = network_input(policy, observations, policy.pi_features_extractor)
        self._distribution = policy.action_dist
        self._products = DenseProducts(mlp.actor, len(self._features))
        self._log_stds = [] if mlp.log_std is None else [mlp.log_std]
        self._output = self._features
        self.parameters = mlp.actor_parameters

    def distribution(self) -> Distribution:
        """Of the actions, with the parameters as they are now, in the policy's own object."""
        latent, output = self._products.forward_with_latent(self._features)
        # Copies: the next call overwrites what the products return.
        self._output = output.clone().requires_grad_()
        parameters = [self._output, *self._log_stds]
        if isinstance(self._distribution, StateDependentNoiseDistribution):
            parameters.append(latent.clone())
        set_parameters: Any = self._distribution.proba_distribution
        set_parameters(*parameters)
        return self._distribution

    def gradient(self, objective: Tensor) -> Tensor:
        """Flat, of a scalar that was made of the distribution."""
        *of_log_std, of_output = torch.autograd.grad(objective, [*self._log_stds, self._output])
        result, gradients = self._flat()
        for gradient, found in zip(gradients, of_log_std, strict=False):
            gradient.copy_(found)
        network = gradients[len(of_log_std) :]
        self._products.transposed_product(self._features, of_output, network)
        return result

    @torch.no_grad()
    def fisher_vector_product(
        self, distribution: Distribution, reduction: KLReduction, damping: float
    ) -> Callable[[Tensor], Tensor]:
        """``v -> (F + damping I) v`` for the mean KL of :func:`trust_region.mean_kl`.

        Args:
            distribution: a copy of what :meth:`distribution` returned.
            reduction: of the KL over action dimensions.
            damping: added to the diagonal.
        """
        batch, outputs = self._output.shape
        metric = _metric(distribution)
        deviations = [_deviations(each, distribution, batch) for each in self._log_stds]
        dimensions = outputs if reduction == "mean" and _averaged(distribution) else 1
        scale = 1.0 / (batch * dimensions)
        result, gradients = self._flat()
        first = len(deviations)
        self._products.keep_slopes()

        @torch.no_grad()
        def product(vector: Tensor) -> Tensor:
            direction = split(vector, self.parameters)
            moved = self._products.jacobian_product(self._features, direction[first:])
            outer = metric(moved).mul_(scale)
            self._products.transposed_product(self._features, outer, gradients[first:])
            for gradient, part, of in zip(gradients, direction, deviations, strict=False):
                torch.mul(of(part), scale, out=gradient)
            return result + damping * vector

        return product

    def _flat(self) -> tuple[Tensor, list[Tensor]]:
        """Memory for a flat vector, and its parts as the parameters are shaped."""
        size = sum(parameter.numel() for parameter in self.parameters)
        flat = torch.empty(size, device=self._features.device)
        return flat, split(flat, self.parameters)


def split(vector: Tensor, like: Sequence[nn.Parameter]) -> list[Tensor]:
    """Views of a flat vector, shaped as parameters."""
    parts = torch.split(vector, [parameter.numel() for parameter in like])
    return [part.view_as(parameter) for part, parameter in zip(parts, like, strict=True)]


def _averaged(distribution: Distribution) -> bool:
    """Whether SB3's KL has a value for each action dimension, and so a mean over them."""
    return not isinstance(distribution, (CategoricalDistribution, MultiCategoricalDistribution))


def _deviations(
    log_std: nn.Parameter, distribution: Distribution, batch: int
) -> Callable[[Tensor], Tensor]:
    """``u -> F u`` with F the Fisher matrix in ``log_std``, summed over the batch.

    It has no part in common with that of the network: gSDE's noise does not teach the features
    that it is made of.
    """
    if isinstance(distribution, DiagGaussianDistribution):
        # The KL's second derivative in log sigma is 2 for each dimension.
        return lambda u: u * (2.0 * batch)
    assert isinstance(distribution, StateDependentNoiseDistribution)
    # An action's variance v is the sum over features of their squares times the squares of their
    # deviations (Raffin et al. 2021, arXiv:2005.05719). The KL's second derivative in v is
    # 1 / (2 v^2).
    squares = distribution._latent_sde.detach() ** 2
    with torch.enable_grad():
        variances = distribution.get_std(log_std) ** 2
        (slope,) = torch.autograd.grad(variances.sum(), log_std)
    # Without full_std all actions have one column.
    columns = variances.shape[1] // log_std.shape[1]
    slope = slope / columns
    metric = 0.5 * distribution.distribution.scale.detach().pow(-4)

    def product(u: Tensor) -> Tensor:
        weighted = metric * (squares @ (slope * u))
        back = squares.t() @ weighted
        return slope * (back if columns == 1 else back.sum(dim=1, keepdim=True))

    return product


def _metric(distribution: Distribution) -> Callable[[Tensor], Tensor]:
    """``u -> M u`` with M the Fisher matrix in the network's output, row by row."""
    if isinstance(distribution, (DiagGaussianDistribution, StateDependentNoiseDistribution)):
        precision = distribution.distribution.scale.detach().pow(-2)
        return lambda u: u * precision
    if isinstance(distribution, CategoricalDistribution):
        return _categorical(distribution.distribution.probs.detach())
    if isinstance(distribution, MultiCategoricalDistribution):
        parts = [_categorical(each.probs.detach()) for each in distribution.distribution]
        sizes = [each.probs.shape[1] for each in distribution.distribution]
        return lambda u: torch.cat(
            [part(u_part) for part, u_part in zip(parts, torch.split(u, sizes, 1), strict=True)], 1
        )
    assert isinstance(distribution, BernoulliDistribution)
    probability = distribution.distribution.probs.detach()
    variance = probability * (1 - probability)
    return lambda u: u * variance


def _categorical(probabilities: Tensor) -> Callable[[Tensor], Tensor]:
    def product(u: Tensor) -> Tensor:
        weighted = probabilities * u
        return weighted - probabilities * weighted.sum(dim=1, keepdim=True)

    return product
