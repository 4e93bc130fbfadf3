"""Only policies that the fast path computes exactly are recognised."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn
from torch.nn.utils import prune

from tests.train.mlp.policies import policy_of
from trpo_deploy.train.mlp.standard_mlp import standard_mlp


class CustomPolicy(ActorCriticPolicy):
    """May compute anything."""


class CustomExtractor(FlattenExtractor):
    """May compute anything."""


class CustomMlpExtractor(MlpExtractor):
    """May compute anything."""


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


def test_a_policy_with_an_additional_parameter_takes_the_generic_path() -> None:
    policy = policy_of(spaces.Discrete(2))
    policy.register_parameter("temperature", nn.Parameter(torch.ones(1)))
    assert standard_mlp(policy) is None
