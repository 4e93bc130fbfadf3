"""The actor by autograd, against dense linear algebra and the definition of the Fisher matrix."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from trpo_deploy.train.update.autograd_actor import AutogradActor, actor_parameters
from trpo_deploy.train.update.flat import flat_gradient
from trpo_deploy.train.update.kl import mean_kl

ACTION_SPACES = {
    "box": spaces.Box(-1, 1, (2,)),
    "discrete": spaces.Discrete(3),
    "multi discrete": spaces.MultiDiscrete([2, 3]),
    "multi binary": spaces.MultiBinary(2),
}
Matrix = np.ndarray[Any, Any]


def small_policy(action_space: spaces.Space[Any]) -> ActorCriticPolicy:
    torch.manual_seed(0)
    policy = ActorCriticPolicy(
        spaces.Box(-1, 1, (3,)), action_space, lambda _: 1e-3, net_arch=[4]
    ).double()
    # SB3 casts observations to float32; these tests compute in float64.
    vars(policy.features_extractor)["forward"] = lambda observations: observations.double()
    return policy


def kl_at(policy: ActorCriticPolicy, observations: Tensor) -> Tensor:
    with torch.no_grad():
        old = copy.copy(policy.get_distribution(observations))
    return mean_kl(policy.get_distribution(observations), old)


def dense_hessian(policy: ActorCriticPolicy, observations: Tensor) -> Matrix:
    """Row by row, by differentiating each entry of the gradient."""
    parameters, gradient = actor_parameters(kl_at(policy, observations), policy)
    rows = [flat_gradient(entry, parameters, keep_graph=True) for entry in gradient]
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("space", ACTION_SPACES.values(), ids=ACTION_SPACES)
def test_the_fisher_vector_product_is_the_hessian_times_the_vector(
    space: spaces.Space[Any],
) -> None:
    policy = small_policy(space)
    observations = torch.randn(50, 3, dtype=torch.float64)
    hessian = dense_hessian(policy, observations)
    # A Fisher matrix is symmetric and has no negative eigenvalue (1e-12: float64 rounding).
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    assert np.linalg.eigvalsh(hessian).min() > -1e-12
    actor = AutogradActor(policy, observations)
    with torch.no_grad():
        old = copy.copy(actor.distribution())
    actor.distribution()
    product = actor.fisher_vector_product(old, "mean", damping=0.1)
    for _ in range(3):
        vector = torch.randn(len(hessian), dtype=torch.float64)
        expected = hessian @ vector.numpy() + 0.1 * vector.numpy()
        np.testing.assert_allclose(product(vector).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_the_fisher_matrix_is_the_expected_outer_product_of_the_scores() -> None:
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


class Offset(ActorCriticPolicy):
    """Shifts the mean by a parameter with "value" in its name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.actor_value_offset = torch.nn.Parameter(torch.zeros(1))

    def get_distribution(self, obs: Any) -> Any:
        distribution: Any = super().get_distribution(obs)
        distribution.distribution.loc = distribution.distribution.loc + self.actor_value_offset
        return distribution


def test_the_actors_parameters_are_found_by_dependence() -> None:
    policy = Offset(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)), lambda _: 1e-3)
    found, _ = actor_parameters(kl_at(policy, torch.randn(5, 3)), policy)
    names = {name for name, p in policy.named_parameters() if any(p is f for f in found)}
    # sb3-contrib leaves out every parameter with "value" in its name.
    assert "actor_value_offset" in names
    assert not any(name.startswith(("value_net", "mlp_extractor.value_net")) for name in names)
    assert {"log_std", "action_net.weight", "mlp_extractor.policy_net.0.weight"} <= names


def test_kl_reductions_differ_by_the_number_of_dimensions() -> None:
    policy = small_policy(spaces.Box(-1, 1, (2,)))
    observations = torch.randn(50, 3).double()
    with torch.no_grad():
        old = copy.copy(policy.get_distribution(observations))
        policy.get_parameter("action_net.bias").add_(0.1)
        new = policy.get_distribution(observations)
    torch.testing.assert_close(mean_kl(new, old, "sum"), 2 * mean_kl(new, old, "mean"))
