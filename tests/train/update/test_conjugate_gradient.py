"""Conjugate gradient, against dense linear algebra."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from trpo_deploy.train.update.conjugate_gradient import conjugate_gradient


@pytest.mark.parametrize("size", [1, 5, 30])
def test_it_solves_a_positive_definite_system(size: int) -> None:
    rng = np.random.default_rng(size)
    root = rng.normal(size=(size, size))
    matrix = root @ root.T + 0.1 * np.eye(size)
    b = rng.normal(size=size)
    x, curvature, residual = conjugate_gradient(
        lambda v: torch.from_numpy(matrix) @ v, torch.from_numpy(b), max_steps=10 * size
    )
    # It stops at a squared residual of 1e-10; the smallest eigenvalue is at least 0.1.
    assert residual < 1e-10
    np.testing.assert_allclose(x.numpy(), np.linalg.solve(matrix, b), atol=1e-4)
    assert curvature == pytest.approx(float(x.numpy() @ matrix @ x.numpy()), rel=1e-9)


def test_the_residual_of_an_unfinished_solution_is_reported() -> None:
    matrix = torch.diag(torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64))
    b = torch.ones(3, dtype=torch.float64)
    x, curvature, residual = conjugate_gradient(lambda v: matrix @ v, b, max_steps=2)
    assert residual == pytest.approx(float((b - matrix @ x).square().sum()), rel=1e-6)
    assert residual > 1e-10
    assert curvature == pytest.approx(float(x @ matrix @ x), rel=1e-9)


def test_the_curvature_stays_positive_for_a_right_hand_side_of_zeros() -> None:
    """Computed from b and the residual alone it is lost in rounding."""
    for seed in range(20):
        torch.manual_seed(seed)
        root = torch.logspace(4, 1, 30)[:, None] * torch.randn(30, 20)
        matrix = root @ root.T + 0.1 * torch.eye(30)
        product = partial(torch.mv, matrix)
        assert conjugate_gradient(product, torch.zeros(30), max_steps=400).curvature > 0


@pytest.mark.parametrize("curvature", [0.0, float("nan"), float("inf")])
def test_the_residual_is_nan_without_a_usable_curvature(curvature: float) -> None:
    found = conjugate_gradient(partial(torch.mul, curvature), torch.ones(3), max_steps=5)
    assert np.isnan(found.residual)
    assert found.curvature == 0 if curvature == 0 else not np.isfinite(found.curvature)


@pytest.mark.parametrize("diagonal", [[2.0, 1.0, -0.5], [-1.0, -2.0, 3.0], [-1.0, -1.0, -1.0]])
def test_a_system_that_is_not_positive_definite_is_solved_too(diagonal: list[float]) -> None:
    """In as many steps as dimensions, as long as no direction has a curvature of zero."""
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    b = torch.tensor([1.0, 1.0, 0.2], dtype=torch.float64)
    x, curvature, residual = conjugate_gradient(lambda v: matrix @ v, b, max_steps=3)
    assert residual < 1e-10
    np.testing.assert_allclose(x.numpy(), (b / torch.tensor(diagonal)).numpy(), atol=1e-4)
    assert curvature == pytest.approx(float(x @ matrix @ x), rel=1e-6)
