"""The mathematics of the step, against dense linear algebra and its own definition."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from trpo_deploy.train.algorithm.trust_region import (
    LineSearch,
    actor_parameters,
    conjugate_gradient,
    fisher_vector_product,
    flat_gradient,
    line_search,
    mean_kl,
)

ACTION_SPACES = {
    "box": spaces.Box(-1, 1, (2,)),
    "discrete": spaces.Discrete(3),
    "multi discrete": spaces.MultiDiscrete([2, 3]),
    "multi binary": spaces.MultiBinary(2),
}


def small_policy(action_space: spaces.Space, **kwargs: object) -> ActorCriticPolicy:
    torch.manual_seed(0)
    policy = ActorCriticPolicy(
        spaces.Box(-1, 1, (3,)), action_space, lambda _: 1e-3, net_arch=[4], **kwargs
    ).double()
    # SB3 casts observations to float32; what follows is computed in float64.
    policy.features_extractor.forward = lambda observations: observations.double()
    return policy


def kl_at(policy: ActorCriticPolicy, observations: Tensor) -> Tensor:
    with torch.no_grad():
        old = copy.copy(policy.get_distribution(observations))
    return mean_kl(policy.get_distribution(observations), old)


def dense_hessian(policy: ActorCriticPolicy, observations: Tensor) -> np.ndarray:
    """Row by row, by differentiating each entry of the gradient."""
    parameters, gradient = actor_parameters(kl_at(policy, observations), policy)
    rows = [flat_gradient(entry, parameters, keep_graph=True) for entry in gradient]
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("space", ACTION_SPACES.values(), ids=ACTION_SPACES)
def test_fisher_vector_product_is_the_hessian_times_the_vector(space: spaces.Space) -> None:
    policy = small_policy(space)
    observations = torch.randn(50, 3, dtype=torch.float64)
    hessian = dense_hessian(policy, observations)
    # A Fisher matrix: symmetric, no negative eigenvalue (1e-12: float64 rounding).
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    assert np.linalg.eigvalsh(hessian).min() > -1e-12
    parameters, gradient = actor_parameters(kl_at(policy, observations), policy)
    product = fisher_vector_product(gradient, parameters, damping=0.1)
    for _ in range(3):
        vector = torch.randn(len(hessian), dtype=torch.float64)
        expected = hessian @ vector.numpy() + 0.1 * vector.numpy()
        np.testing.assert_allclose(product(vector).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_the_fisher_matrix_is_the_scores_outer_product() -> None:
    """Independent of any Hessian: F = E[score score^T], exact for a categorical."""
    policy = small_policy(spaces.Discrete(3))
    observations = torch.randn(20, 3, dtype=torch.float64)
    parameters, _ = actor_parameters(kl_at(policy, observations), policy)
    fisher = np.zeros((sum(p.numel() for p in parameters),) * 2)
    for observation in observations:
        distribution = policy.get_distribution(observation[None])
        for action in range(3):
            log_prob = distribution.log_prob(torch.tensor([action])).sum()
            score = flat_gradient(log_prob, parameters, keep_graph=True).numpy()
            fisher += log_prob.exp().item() * np.outer(score, score) / len(observations)
    np.testing.assert_allclose(dense_hessian(policy, observations), fisher, atol=1e-12)


def test_only_the_actor_is_found_and_by_dependence() -> None:
    policy = small_policy(spaces.Box(-1, 1, (2,)))
    policy.register_parameter("actor_value_offset", torch.nn.Parameter(torch.zeros(1).double()))
    original = policy.get_distribution

    def shifted(observations: Tensor) -> object:
        distribution = original(observations)
        distribution.distribution.loc = distribution.distribution.loc + policy.actor_value_offset
        return distribution

    policy.get_distribution = shifted  # type: ignore[method-assign]
    found, _ = actor_parameters(kl_at(policy, torch.randn(5, 3).double()), policy)
    names = {name for name, p in policy.named_parameters() if any(p is f for f in found)}
    # sb3-contrib leaves out all that has "value" in its name; here dependence decides.
    assert "actor_value_offset" in names
    assert not any(name.startswith(("value_net", "mlp_extractor.value_net")) for name in names)
    assert {"log_std", "action_net.weight", "mlp_extractor.policy_net.0.weight"} <= names


@pytest.mark.parametrize("size", [1, 5, 30])
def test_conjugate_gradient_solves(size: int) -> None:
    rng = np.random.default_rng(size)
    root = rng.normal(size=(size, size))
    matrix = root @ root.T + 0.1 * np.eye(size)
    b = rng.normal(size=size)
    x, curvature, residual = conjugate_gradient(
        lambda v: torch.from_numpy(matrix) @ v, torch.from_numpy(b), max_steps=10 * size
    )
    # Stops at a squared residual of 1e-10; the smallest eigenvalue is at least 0.1.
    assert residual < 1e-10
    np.testing.assert_allclose(x.numpy(), np.linalg.solve(matrix, b), atol=1e-4)
    assert curvature == pytest.approx(float(x.numpy() @ matrix @ x.numpy()), rel=1e-9)


def test_conjugate_gradient_reports_what_is_left_over() -> None:
    matrix = torch.diag(torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64))
    b = torch.ones(3, dtype=torch.float64)
    x, curvature, residual = conjugate_gradient(lambda v: matrix @ v, b, max_steps=2)
    assert residual == pytest.approx(float((b - matrix @ x).square().sum()), rel=1e-6)
    assert residual > 1e-10
    assert curvature == pytest.approx(float(x @ matrix @ x), rel=1e-9)


def test_the_curvature_of_what_solves_for_zeros_is_not_lost_in_rounding() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        root = torch.logspace(4, 1, 30)[:, None] * torch.randn(30, 20)
        matrix = root @ root.T + 0.1 * torch.eye(30)
        found = conjugate_gradient(lambda v, a=matrix: a @ v, torch.zeros(30), max_steps=400)
        assert found.curvature > 0


@pytest.mark.parametrize("curvature", [-1.0, 0.0, float("nan")])
def test_conjugate_gradient_trusts_no_curvature_that_is_not_positive(curvature: float) -> None:
    found = conjugate_gradient(lambda v: curvature * v, torch.ones(3), max_steps=5)
    assert np.isnan(found.residual)


def search(
    evaluate: Callable[[float], tuple[float, float]], start: float = 0.0
) -> tuple[float, LineSearch]:
    """A line search over one number, from ``start`` by a full step of one."""
    parameter = torch.nn.Parameter(torch.tensor([start], dtype=torch.float64))

    def at() -> tuple[Tensor, Tensor]:
        surrogate, kl = evaluate(parameter.item())
        return torch.tensor(surrogate), torch.tensor(kl)

    found = line_search([parameter], torch.ones(1).double(), at, torch.tensor(0.0), 0.01, 0.5, 10)
    return parameter.item(), found


def test_line_search_takes_the_longest_step_inside() -> None:
    position, found = search(lambda x: (x, 0.1 * x * x))
    # 0.1 x^2 < 0.01 first holds at a quarter: 0.025 and 0.00625
    assert position == 0.25
    assert found.step == 0.25


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda x: (-x, 0.0),  # never gains
        lambda _: (0.0, 0.0),  # never strictly gains
        lambda x: (x, 1.0),  # never inside
        lambda x: (x, 0.01),  # never strictly inside
        lambda _: (float("nan"), 0.0),
        lambda x: (x, float("nan")),
    ],
)
def test_a_failed_line_search_leaves_the_parameters_untouched(
    evaluate: Callable[[float], tuple[float, float]],
) -> None:
    start = 0.1 + 0.2  # not a round number: it must come back to the last bit
    position, found = search(evaluate, start)
    assert position == start
    assert found.step == 0


def test_kl_reductions_differ_by_the_number_of_dimensions() -> None:
    policy = small_policy(spaces.Box(-1, 1, (2,)))
    observations = torch.randn(50, 3).double()
    with torch.no_grad():
        old = copy.copy(policy.get_distribution(observations))
        policy.action_net.bias += 0.1
        new = policy.get_distribution(observations)
    torch.testing.assert_close(mean_kl(new, old, "sum"), 2 * mean_kl(new, old, "mean"))
