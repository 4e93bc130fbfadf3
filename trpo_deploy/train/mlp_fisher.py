"""Fisher-vector products of a standard MLP by its Jacobian, in place of double backward.

For a distribution with parameters z that a network gives, the Fisher matrix is
``E[J^T M J]``: J the network's Jacobian, M the Fisher matrix of the distribution in z (the
generalised Gauss-Newton form, exact for the KL at equality; Schulman et al. 2015, appendix
C.1). M is known in closed form, so a product costs one forward and one backward sweep over
cached activations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)
from torch import Tensor, nn

from trpo_deploy.train.mlp import DenseProducts, StandardMlp
from trpo_deploy.train.trust_region import KLReduction


@torch.no_grad()
def mlp_fisher_vector_product(
    mlp: StandardMlp,
    features: Tensor,
    distribution: Distribution,
    reduction: KLReduction,
    damping: float,
) -> Callable[[Tensor], Tensor]:
    """``v -> (F + damping I) v`` for the mean KL of :func:`trust_region.mean_kl`.

    Args:
        mlp: the actor.
        features: its input, ``(batch, features)``.
        distribution: what the policy makes of them.
        reduction: of the KL over action dimensions.
        damping: added to the diagonal.
    """
    products = DenseProducts(mlp.actor, len(features))
    batch, outputs = products.forward(features).shape
    metric = _metric(distribution)
    deviations = None if mlp.log_std is None else _deviations(mlp.log_std, distribution, batch)
    dimensions = outputs if reduction == "mean" and _averaged(distribution) else 1
    scale = 1.0 / (batch * dimensions)
    shapes = mlp.actor_parameters
    result = torch.empty(sum(p.numel() for p in shapes), device=features.device)
    gradients = split(result, shapes)
    first = 0 if deviations is None else 1

    @torch.no_grad()
    def product(vector: Tensor) -> Tensor:
        direction = split(vector, shapes)
        moved = products.jacobian_product(features, direction[first:])
        products.transposed_product(features, metric(moved).mul_(scale), gradients[first:])
        if deviations is not None:
            torch.mul(deviations(direction[0]), scale, out=gradients[0])
        return result + damping * vector

    return product


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
