r"""The mathematics of one TRPO step, on flat vectors and callables.

TRPO (Schulman et al. 2015, https://arxiv.org/abs/1502.05477) maximises the surrogate

.. math:: L(\theta) = E[ \pi_\theta(a|s) / \pi_{old}(a|s) \; A(s, a) ]

subject to :math:`E[KL] \le \delta` (eq. 14). With the surrogate's gradient g and the Fisher
matrix F, the direction is :math:`x = F^{-1} g` (by conjugate gradient, appendix C), the
longest step that the quadratic model allows is :math:`\sqrt{2 \delta / x^T F x}`, and a
backtracking line search makes sure of both the gain and the constraint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from stable_baselines3.common.distributions import Distribution, kl_divergence
from torch import Tensor, nn

KLReduction: TypeAlias = Literal["mean", "sum"]


def mean_kl(new: Distribution, old: Distribution, reduction: KLReduction = "mean") -> Tensor:
    """KL(new || old), averaged over the batch.

    Args:
        new: distributions of the changed policy, one for each observation.
        old: those of the policy that collected the rollout.
        reduction: over the action's dimensions. ``"mean"`` is what ``sb3_contrib.TRPO`` does
            for Box and MultiBinary: the true KL is the number of dimensions times as large.
            ``"sum"`` is the KL of the paper. Discrete and MultiDiscrete are the same in both.

    Returns:
        A scalar.
    """
    kl = kl_divergence(new, old)
    if reduction == "sum" and kl.ndim > 1:
        kl = kl.flatten(start_dim=1).sum(dim=1)
    return kl.mean()


def flat_gradient(
    output: Tensor, parameters: Sequence[nn.Parameter], *, keep_graph: bool
) -> Tensor:
    """Gradient of a scalar with respect to all parameters, as one vector."""
    gradients = torch.autograd.grad(
        output, parameters, retain_graph=keep_graph, allow_unused=True, materialize_grads=True
    )
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def actor_parameters(kl: Tensor, policy: nn.Module) -> tuple[list[nn.Parameter], Tensor]:
    """The parameters that the action distribution depends on, and the KL's gradient.

    Found by dependence: a parameter belongs to the actor if and only if the KL has a gradient
    for it, whatever its name.

    Args:
        kl: scalar with its graph.
        policy: the module whose parameters are looked at, in its own order.

    Returns:
        The parameters, and the flat gradient with a graph for second derivatives.
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


def fisher_vector_product(
    kl_gradient: Tensor, parameters: Sequence[nn.Parameter], damping: float
) -> Callable[[Tensor], Tensor]:
    """``v -> (F + damping I) v``, with F the Hessian of the KL, by double backward.

    Args:
        kl_gradient: flat gradient of the mean KL, with its graph.
        parameters: what it was taken for.
        damping: added to the diagonal, so that the product is positive definite.
    """

    def product(vector: Tensor) -> Tensor:
        gradient = flat_gradient((kl_gradient * vector).sum(), parameters, keep_graph=True)
        return gradient + damping * vector

    return product


class Solution(NamedTuple):
    """What conjugate gradients found for ``A x = b``."""

    x: Tensor
    curvature: float
    """``x^T A x``."""
    residual: float
    """Squared norm of ``b - A x``."""


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    max_steps: int,
    tolerance: float = 1e-10,
) -> Solution:
    """Solve ``A x = b`` for a positive definite A that is known by its products.

    Mirrors ``sb3_contrib.common.utils.conjugate_gradient_solver``: it starts from
    ``1e-4 * randn`` and not from zero, and stops at the same residual.

    Args:
        product: ``x -> A x``.
        b: right-hand side, flat.
        max_steps: products to spend after the first.
        tolerance: stop when the squared norm of the residual is below it.

    Returns:
        The solution. With a curvature that is zero or negative the residual is NaN: there is no
        solution to trust.
    """
    x = 1e-4 * torch.randn_like(b)
    residual = b - product(x)
    residual_norm = residual.dot(residual)
    direction = residual.clone()
    for _ in range(max_steps):
        if residual_norm < tolerance:
            break
        curved = product(direction)
        curvature = direction.dot(curved)
        if not curvature > 0:
            residual_norm = torch.full_like(residual_norm, math.nan)
            break
        alpha = residual_norm / curvature
        x = x + alpha * direction
        residual = residual - alpha * curved
        new_norm = residual.dot(residual)
        direction = residual + (new_norm / residual_norm) * direction
        residual_norm = new_norm
    of_solution = float(x.dot(b - residual))  # a product less than by A
    if of_solution <= 0:  # lost in rounding, as for a b of zeros
        of_solution = float(x.dot(product(x)))
    return Solution(x, of_solution, float(residual_norm))


@dataclass(frozen=True)
class LineSearch:
    """What a line search found."""

    step: float
    """The accepted fraction of the longest step; zero if none was."""
    surrogate: float
    kl: float


def line_search(
    parameters: Sequence[nn.Parameter],
    full_step: Tensor,
    evaluate: Callable[[], tuple[Tensor, Tensor]],
    surrogate_before: Tensor,
    max_kl: float,
    shrinking_factor: float,
    max_steps: int,
) -> LineSearch:
    """Shrink a step until it gains and stays inside of the trust region.

    Args:
        parameters: moved to the accepted point; back where they were if there is none.
        full_step: flat, the longest step to try.
        evaluate: surrogate and KL at the parameters as they are; called without gradients.
        surrogate_before: what has to be exceeded.
        max_kl: what the KL has to stay below.
        shrinking_factor: between two tries, in (0, 1).
        max_steps: tries.
    """
    before = [parameter.detach().clone() for parameter in parameters]
    steps = torch.split(full_step, [parameter.numel() for parameter in parameters])
    fraction = 1.0
    with torch.no_grad():
        for _ in range(max_steps):
            for parameter, start, step in zip(parameters, before, steps, strict=True):
                parameter.copy_(start + fraction * step.view_as(start))
            surrogate, kl = evaluate()
            # A comparison with NaN is false, so a step into NaN is never accepted.
            if bool(kl < max_kl) and bool(surrogate > surrogate_before):
                return LineSearch(fraction, surrogate.item(), kl.item())
            fraction *= shrinking_factor
        for parameter, start in zip(parameters, before, strict=True):
            parameter.copy_(start)
    return LineSearch(0.0, surrogate_before.item(), 0.0)
