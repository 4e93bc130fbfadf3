"""The KL divergence between the policy before and after a step."""

from __future__ import annotations

from typing import Literal, TypeAlias

from stable_baselines3.common.distributions import Distribution, kl_divergence
from torch import Tensor

KLReduction: TypeAlias = Literal["mean", "sum"]
"""How the KL is reduced over the dimensions of an action; see :func:`mean_kl`."""


def mean_kl(new: Distribution, old: Distribution, reduction: KLReduction = "mean") -> Tensor:
    """``KL(new || old)``, averaged over the batch.

    Args:
        new: Distributions of the changed policy, one for each observation.
        old: Distributions of the policy that collected the rollout.
        reduction: Reduction over the dimensions of the action. ``"mean"`` is what
            ``sb3_contrib.TRPO`` does for Box and MultiBinary: the true KL is this value times the
            number of dimensions. ``"sum"`` is the KL of the paper. For Discrete and MultiDiscrete
            the two are the same.

    Returns:
        A scalar.
    """
    kl = kl_divergence(new, old)
    if reduction == "sum" and kl.ndim > 1:
        kl = kl.flatten(start_dim=1).sum(dim=1)
    return kl.mean()
