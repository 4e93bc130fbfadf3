"""Fisher matrices of SB3's distributions in their own parameters, in closed form."""

from __future__ import annotations

from collections.abc import Callable

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


def output_metric(distribution: Distribution) -> Callable[[Tensor], Tensor]:
    """``u -> M u``, row by row, with M the Fisher matrix in the network's output.

    Args:
        distribution: One of the distributions of a standard MLP, over a batch.
    """
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


def log_std_metric(
    log_std: nn.Parameter, distribution: Distribution, batch: int
) -> Callable[[Tensor], Tensor]:
    """``u -> F u``, with F the Fisher matrix in ``log_std``, summed over the batch.

    The matrix has no block in common with the network's: gSDE does not train the features that
    its noise is made of.

    Args:
        log_std: The parameter.
        distribution: A Gaussian or gSDE over a batch.
        batch: Number of observations.
    """
    if isinstance(distribution, DiagGaussianDistribution):
        # The KL's second derivative in log sigma is 2 for each dimension.
        return lambda u: u * (2.0 * batch)
    assert isinstance(distribution, StateDependentNoiseDistribution)
    # The variance v of an action is the sum over the features of their squares times the squared
    # deviations (Raffin et al. 2021, arXiv:2005.05719). The KL's second derivative in v is
    # 1 / (2 v^2).
    squares = distribution._latent_sde.detach() ** 2
    with torch.enable_grad():
        variances = distribution.get_std(log_std) ** 2
        (slope,) = torch.autograd.grad(variances.sum(), log_std)
    # Without full_std, log_std has one column for all actions.
    columns = variances.shape[1] // log_std.shape[1]
    slope = slope / columns
    metric = 0.5 * distribution.distribution.scale.detach().pow(-4)

    def product(u: Tensor) -> Tensor:
        weighted = metric * (squares @ (slope * u))
        back = squares.t() @ weighted
        return slope * (back if columns == 1 else back.sum(dim=1, keepdim=True))

    return product


def is_averaged(distribution: Distribution) -> bool:
    """Whether SB3's KL has one value for each dimension, so that its mean averages over them."""
    return not isinstance(distribution, (CategoricalDistribution, MultiCategoricalDistribution))
