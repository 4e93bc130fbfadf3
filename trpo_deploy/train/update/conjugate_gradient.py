"""Conjugate gradient, on flat vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Solution(NamedTuple):
    """An approximate solution of ``A x = b``."""

    x: Tensor
    curvature: float
    """``x^T A x``; where A does not curve along a search direction d, ``d^T A d / d^T d``."""
    residual: float
    """Squared norm of ``b - A x``."""


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    max_steps: int,
    tolerance: float = 1e-10,
) -> Solution:
    """Solve ``A x = b`` for a symmetric A, given as a matrix-vector product.

    Mirrors ``sb3_contrib.common.utils.conjugate_gradient_solver``: it starts from
    ``1e-4 * randn`` instead of zero, stops at the same residual, and goes on where a search
    direction has a negative curvature. Convergence is guaranteed for a positive definite A only.

    Args:
        product: ``x -> A x``.
        b: Right-hand side, flat.
        max_steps: Maximum number of steps; each takes one product, after one for the start.
        tolerance: Stop when the squared norm of the residual is below it.

    Returns:
        The solution. Its residual is NaN where the curvature along a search direction is zero or
        not finite: then the solution is unusable.
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
        alpha = residual_norm / curvature
        if not bool(torch.isfinite(alpha)):
            return Solution(x, float(curvature / direction.dot(direction)), math.nan)
        x = x + alpha * direction
        residual = residual - alpha * curved
        new_norm = residual.dot(residual)
        direction = residual + (new_norm / residual_norm) * direction
        residual_norm = new_norm
    solution_curvature = float(x.dot(b - residual))  # saves a product with A
    if solution_curvature <= 0:  # lost in rounding, as for a b of zeros
        solution_curvature = float(x.dot(product(x)))
    return Solution(x, solution_curvature, float(residual_norm))
