"""Only policies that the fast path computes exactly are recognised."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import Tensor, nn
from torch.nn.utils import prune

from tests.train.mlp.policies import NORMS, policy_of
from trpo_deploy.train.mlp.dense_products import DenseProducts
from trpo_deploy.train.mlp.standard_mlp import standard_mlp


class CustomPolicy(ActorCriticPolicy):
    """Computes its own values."""

    def predict_values(self, obs: Any) -> Tensor:
        return 2 * super().predict_values(obs)


class CustomExtractor(FlattenExtractor):
    """May compute anything."""


class CustomMlpExtractor(MlpExtractor):
    """Computes its own latent."""

    def forward_actor(self, features: Tensor) -> Tensor:
        return 2 * super().forward_actor(features)


class OtherInit(ActorCriticPolicy):
    """A policy with a small last layer."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        nn.init.orthogonal_(self.get_parameter("action_net.weight"), gain=0.001)


class NamedExtractor(MlpExtractor):
    """Defines nothing but what it is built from."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = "mine"


class OwnMlpExtractor(ActorCriticPolicy):
    """A policy with a subclass of SB3's extractor."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = NamedExtractor(self.features_dim, [8, 8], nn.Tanh)


class Residual(nn.Sequential):
    """Computes more than its modules."""

    def forward(self, features: Any) -> Any:
        for module in self:
            features = features + module(features)
        return features


class ActionsFirst(ActorCriticPolicy):
    """Has its parameters in another order."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        extractor = self._modules.pop("mlp_extractor")
        self.add_module("mlp_extractor", extractor)


def sequence_of(policy: ActorCriticPolicy, cls: type[nn.Sequential]) -> ActorCriticPolicy:
    policy.mlp_extractor.policy_net = cls(*policy.mlp_extractor.policy_net)
    return policy


def with_layer(policy: ActorCriticPolicy, layer: nn.Module, place: int) -> ActorCriticPolicy:
    policy.mlp_extractor.policy_net.insert(place, layer)
    return policy


class NormAndTanh(nn.Sequential):
    """A layer norm and an activation, for ``activation_fn``."""

    def __init__(self) -> None:
        super().__init__(nn.LayerNorm(8), nn.Tanh())


def sharing(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    policy.mlp_extractor.value_net = policy.mlp_extractor.policy_net
    return policy


def learning_features(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    vars(policy.action_dist)["learn_features"] = True
    return policy


def pruned(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    prune_smallest: Any = prune.l1_unstructured
    prune_smallest(policy.action_net, "weight", amount=0.5)
    return policy


def with_custom_mlp_extractor(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    policy.mlp_extractor.__class__ = CustomMlpExtractor
    return policy


def hooked(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    policy.mlp_extractor.register_forward_hook(lambda *_: None)
    return policy


def gradient_hooked(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    weight: Any = policy.value_net.weight
    weight.register_hook(lambda gradient: gradient)
    return policy


def with_a_replaced_method(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    vars(policy.mlp_extractor)["forward_actor"] = policy.mlp_extractor.policy_net.__call__
    return policy


def with_custom_critic_extractor(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    policy.vf_features_extractor = CustomExtractor(policy.observation_space)
    return policy


@pytest.mark.parametrize(
    "policy",
    [
        learning_features(policy_of(spaces.Box(-1, 1, (2,)), use_sde=True)),
        policy_of(spaces.Discrete(2), activation_fn=nn.Softsign),
        policy_of(spaces.Discrete(2), activation_fn=partial(nn.LeakyReLU, -0.1)),
        policy_of(spaces.Discrete(2), activation_fn=partial(nn.ELU, -0.1)),
        policy_of(spaces.Discrete(2), activation_fn=partial(nn.Softplus, beta=2.0)),
        with_layer(policy_of(spaces.Discrete(2)), nn.LayerNorm(8, elementwise_affine=False), 1),
        with_layer(policy_of(spaces.Discrete(2)), nn.LayerNorm(8, bias=False), 1),
        with_layer(policy_of(spaces.Discrete(2)), nn.LayerNorm((100, 8)), 1),
        with_layer(policy_of(spaces.Discrete(2)), nn.RMSNorm(8), 1),
        with_layer(policy_of(spaces.Discrete(2)), nn.Tanh(), 0),
        with_layer(policy_of(spaces.Discrete(2)), nn.Tanh(), 1),
        sequence_of(policy_of(spaces.Discrete(2)), Residual),
        policy_of(spaces.Discrete(2), cls=ActionsFirst),
        policy_of(spaces.Discrete(2), features_extractor_class=CustomExtractor),
        CustomPolicy(spaces.Box(-1, 1, (3,)), spaces.Discrete(2), lambda _: 1e-3),
        sharing(policy_of(spaces.Discrete(2))),
        pruned(policy_of(spaces.Discrete(2))),
        with_custom_mlp_extractor(policy_of(spaces.Discrete(2))),
        with_custom_critic_extractor(policy_of(spaces.Discrete(2), share_features_extractor=False)),
        hooked(policy_of(spaces.Discrete(2))),
        gradient_hooked(policy_of(spaces.Discrete(2))),
        with_a_replaced_method(policy_of(spaces.Discrete(2))),
    ],
    ids=[
        "gSDE that trains the features",
        "an unknown activation",
        "a negative leak",
        "a negative alpha",
        "another beta",
        "a norm without parameters",
        "a norm without bias",
        "a norm of several axes",
        "another norm",
        "an activation of the input",
        "two activations",
        "a sequence of its own",
        "parameters in another order",
        "a custom extractor",
        "a custom policy",
        "shared layers",
        "a pruned layer",
        "a custom mlp extractor",
        "a custom extractor of the critic",
        "a hook",
        "a gradient hook",
        "a replaced method",
    ],
)
def test_any_other_policy_takes_the_generic_path(policy: ActorCriticPolicy) -> None:
    assert standard_mlp(policy) is None


@pytest.mark.parametrize(
    "policy",
    [
        *(policy_of(spaces.Discrete(2), cls=cls) for cls in (*NORMS, OtherInit, OwnMlpExtractor)),
        policy_of(spaces.Discrete(2), activation_fn=NormAndTanh),
        with_layer(policy_of(spaces.Discrete(2)), nn.Linear(8, 8), 1),
        policy_of(spaces.Box(-1, 1, (2,)), use_sde=True, cls=NORMS[0]),
        sequence_of(policy_of(spaces.Discrete(2)), nn.Sequential),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_modules_that_a_policy_makes_take_the_fast_path(policy: ActorCriticPolicy) -> None:
    mlp = standard_mlp(policy)
    assert mlp is not None
    observations = torch.randn(7, 3)
    with torch.no_grad():
        outputs = [
            DenseProducts(network, 7).forward(observations) for network in (mlp.actor, mlp.critic)
        ]
        latents = policy.mlp_extractor(observations)
        expected = policy.action_net(latents[0]), policy.value_net(latents[1])
    torch.testing.assert_close(outputs, [*expected])


def test_a_policy_with_an_additional_parameter_takes_the_generic_path() -> None:
    policy = policy_of(spaces.Discrete(2))
    policy.register_parameter("temperature", nn.Parameter(torch.ones(1)))
    assert standard_mlp(policy) is None
