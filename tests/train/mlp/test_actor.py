"""The written-out derivatives of the actor equal autograd's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from tests.train.mlp.policies import (
    ACTION_SPACES,
    ACTIVATIONS,
    GSDE,
    NORMS,
    NormAfter,
    NormBefore,
    policy_of,
)
from trpo_deploy.train.mlp import dense_products
from trpo_deploy.train.mlp.actor import MlpActor
from trpo_deploy.train.mlp.dense_products import DenseProducts
from trpo_deploy.train.mlp.standard_mlp import standard_mlp
from trpo_deploy.train.update.actor import Actor
from trpo_deploy.train.update.autograd_actor import AutogradActor


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda make: repr(make()))
@pytest.mark.parametrize("space", ACTION_SPACES.values(), ids=ACTION_SPACES)
def test_derivatives_equal_double_backwards(
    space: spaces.Space[Any], activation: Callable[[], nn.Module], reduction: Any
) -> None:
    check_actor(policy_of(space, activation_fn=activation), reduction)


@pytest.mark.parametrize("net_arch", [[], [3], [8, 8], [20, 33], [5, 32]], ids=str)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.SiLU])
@pytest.mark.parametrize("cls", NORMS)
def test_derivatives_of_layer_norms_equal_double_backwards(
    cls: type[ActorCriticPolicy], activation: type[nn.Module], net_arch: list[int]
) -> None:
    policy = policy_of(ACTION_SPACES["box"], 5, cls, activation_fn=activation, net_arch=net_arch)
    check_actor(policy, "mean")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("option", GSDE)
def test_derivatives_of_gsde_equal_double_backwards(option: str, reduction: Any) -> None:
    policy = policy_of(ACTION_SPACES["box"], use_sde=True, **GSDE[option])
    check_actor(policy, reduction)


@pytest.mark.parametrize("inputs", [3, 30])
@pytest.mark.parametrize("actions", [1, 2, 9])
@pytest.mark.parametrize("net_arch", [[], [1], [5, 30], [30, 5], [20, 40, 33]], ids=str)
def test_layers_may_have_any_width(net_arch: list[int], actions: int, inputs: int) -> None:
    space = spaces.Box(-1, 1, (actions,))
    check_actor(policy_of(space, inputs, net_arch=net_arch), "mean")


WIDE = [([20, 40, 33], True), ([5, 32], True), ([40, 31], False), ([40, 31, 64], False)]
WIDE_WITH_NORMS = [([33, 40, 32], True), ([40, 31], False)]


@pytest.mark.parametrize(
    ("cls", "activation", "net_arch", "keeps"),
    [
        *((ActorCriticPolicy, each, *wide) for each in ACTIVATIONS for wide in WIDE),
        *((cls, nn.SiLU, *wide) for cls in (NormBefore, NormAfter) for wide in WIDE_WITH_NORMS),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_slopes_are_kept_for_wide_layers_and_give_the_same_product(
    cls: type[ActorCriticPolicy],
    activation: Callable[[], nn.Module],
    net_arch: list[int],
    keeps: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[bool] = []
    keep_slopes = DenseProducts.keep_slopes

    def keep(products: DenseProducts, x: Tensor) -> bool:
        kept.append(keep_slopes(products, x))
        return kept[-1]

    monkeypatch.setattr(DenseProducts, "keep_slopes", keep)
    space = spaces.Box(-1, 1, (2,))
    policy = policy_of(space, 3, cls, net_arch=net_arch, activation_fn=activation)
    check_actor(policy, "mean")
    assert kept == [keeps] * 2


def test_slopes_are_kept_up_to_their_maximum_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    mlp = standard_mlp(policy_of(spaces.Box(-1, 1, (2,)), net_arch=[32, 32]))
    assert mlp is not None
    for maximum, kept in ((2 * 10 * 32, True), (2 * 10 * 32 - 1, False)):
        monkeypatch.setattr(dense_products, "MAX_SLOPES", maximum)
        products = DenseProducts(mlp.actor, 10)
        with torch.no_grad():
            observations = torch.randn(10, 3)
            products.forward(observations)
            assert products.keep_slopes(observations) == kept


def check_actor(policy: ActorCriticPolicy, reduction: Any) -> None:
    assert policy.observation_space.shape is not None
    observations = torch.randn(100, *policy.observation_space.shape)
    mlp = standard_mlp(policy)
    assert mlp is not None
    actor = MlpActor(policy, mlp, observations)
    check_derivatives(policy, actor, observations, reduction)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    # The actor reuses its memory, which must not keep results of the earlier parameters.
    check_derivatives(policy, actor, observations, reduction)


def check_derivatives(
    policy: ActorCriticPolicy, actor: MlpActor, observations: torch.Tensor, reduction: Any
) -> None:
    expected = AutogradActor(policy, observations)
    with torch.no_grad():
        old = copy.copy(policy.get_distribution(observations))
        actions = old.mode()
        actions = 0.9 * actions + 0.01 if actions.is_floating_point() else actions
    actions = actions.round() if isinstance(policy.action_space, spaces.MultiBinary) else actions
    weights = torch.randn(len(observations))

    def derivatives(of: Actor) -> tuple[Any, torch.Tensor]:
        objective = (weights * of.distribution().log_prob(actions)).mean()
        product = of.fisher_vector_product(old, reduction, damping=0.1)
        return product, of.gradient(objective)

    expected_product, expected_gradient = derivatives(expected)
    product, gradient = derivatives(actor)
    assert [id(p) for p in actor.parameters] == [id(p) for p in expected.parameters]
    # float32 sums in another order
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)
    for _ in range(3):
        vector = torch.randn_like(gradient)
        torch.testing.assert_close(product(vector), expected_product(vector), rtol=1e-4, atol=1e-5)
