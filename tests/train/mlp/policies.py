"""Policies and trainings that the tests of the fast path share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from tests.train.environments import RandomEnv
from trpo_deploy import TRPO
from trpo_deploy.train.algorithm import paths
from trpo_deploy.train.mlp.standard_mlp import standard_mlp

ACTION_SPACES = {
    "box": spaces.Box(-1, 1, (2,)),
    "discrete": spaces.Discrete(3),
    "multi discrete": spaces.MultiDiscrete([2, 3]),
    "multi binary": spaces.MultiBinary(3),
}
GSDE: dict[str, dict[str, Any]] = {
    "defaults": {},
    "one deviation for each feature": {"full_std": False},
    "expln": {"use_expln": True, "log_std_init": 0.0},  # on both sides of its case distinction
    "expln, one deviation for each feature": {
        "use_expln": True,
        "full_std": False,
        "log_std_init": 0.0,
    },
    "squashed": {"squash_output": True, "log_std_init": -1.0},
    "no hidden layer": {"net_arch": []},
}
FROM_VALUE: list[type[nn.Module]] = [nn.Tanh, nn.ReLU, nn.Sigmoid, nn.ELU, nn.LeakyReLU]
FROM_INPUT: list[Callable[[], nn.Module]] = [
    nn.SiLU,
    nn.GELU,
    partial(nn.GELU, approximate="tanh"),
    nn.Softplus,
    nn.Mish,
    nn.Hardswish,
]
"""Activations whose derivative needs their input."""
ACTIVATIONS: list[Callable[[], nn.Module]] = [*FROM_VALUE, *FROM_INPUT]


def policy_of(action_space: spaces.Space[Any], inputs: int = 3, **kwargs: Any) -> ActorCriticPolicy:
    torch.manual_seed(0)
    arguments = {"net_arch": [8, 8], **kwargs}
    observations = spaces.Box(-1, 1, (inputs,))
    policy = ActorCriticPolicy(observations, action_space, lambda _: 1e-3, **arguments)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # away from the flat start
    return policy


def forced_path(*, generic: bool) -> Any:
    """Context in which update and rollout take the generic path if ``generic``."""
    decide = (lambda _: None) if generic else standard_mlp
    return mock.patch.object(paths, "standard_mlp", decide)


def trained(
    space: spaces.Space[Any],
    *,
    generic: bool,
    n_envs: int = 2,
    n_updates: int = 2,
    observations: spaces.Space[Any] | None = None,
    policy: str = "MlpPolicy",
    **kwargs: Any,
) -> TRPO:
    """A trained model, by the generic path if ``generic``."""
    env = DummyVecEnv([lambda: RandomEnv(space, observations)] * n_envs)
    arguments = {"n_steps": 64, "batch_size": 64, "n_critic_updates": 3, "seed": 0, **kwargs}
    model = TRPO(policy, env, **arguments)
    assert standard_mlp(model.policy) is not None
    with forced_path(generic=generic):
        return model.learn(n_updates * 64 * n_envs)
