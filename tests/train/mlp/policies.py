"""Policies and trainings that the tests of the fast path share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any
from unittest import mock

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor, nn

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


class OwnModule(nn.Module):
    """Networks of actor and critic, with a common layer and a norm."""

    latent_dim_pi, latent_dim_vf = 6, 5

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.common = nn.Sequential(nn.Linear(inputs, 8), nn.LayerNorm(8), nn.SiLU())
        self.actor, self.critic = nn.Linear(8, 6), nn.Linear(8, 5)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        return self.actor(self.common(features)).tanh()  # type: ignore[no-any-return]

    def forward_critic(self, features: Tensor) -> Tensor:
        return self.critic(self.common(features)).tanh()  # type: ignore[no-any-return]


class OwnNetworks(ActorCriticPolicy):
    """A policy with :class:`OwnModule`, as SB3's documentation shows it."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = OwnModule(self.features_dim)  # type: ignore[assignment]


class NormBefore(ActorCriticPolicy):
    """A policy with a layer norm before each activation."""

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        for name in ("policy_net", "value_net"):
            net = getattr(self.mlp_extractor, name)
            setattr(self.mlp_extractor, name, nn.Sequential(*self.with_norms(net)))

    def with_norms(self, net: nn.Sequential) -> Iterator[nn.Module]:
        for layer in net:
            yield layer
            if isinstance(layer, nn.Linear):
                yield nn.LayerNorm(layer.out_features, eps=1e-3)


class NormAfter(NormBefore):
    """A policy with a layer norm after each activation, and a sequence in a sequence."""

    def with_norms(self, net: nn.Sequential) -> Iterator[nn.Module]:
        layers: list[Any] = list(net)
        for linear, activation in zip(layers[::2], layers[1::2], strict=True):
            yield nn.Sequential(linear, activation, nn.LayerNorm(linear.out_features))


class NormFirst(NormBefore):
    """A policy with a layer norm of the observation."""

    def with_norms(self, net: nn.Sequential) -> Iterator[nn.Module]:
        return iter([nn.LayerNorm(self.features_dim, eps=1), *net])


NORMS = (NormBefore, NormAfter, NormFirst)


def policy_of(
    action_space: spaces.Space[Any],
    inputs: int = 3,
    cls: type[ActorCriticPolicy] = ActorCriticPolicy,
    **kwargs: Any,
) -> ActorCriticPolicy:
    torch.manual_seed(0)
    arguments = {"net_arch": [8, 8], **kwargs}
    observations = spaces.Box(-1, 1, (inputs,))
    policy = cls(observations, action_space, lambda _: 1e-3, **arguments)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # away from the flat start
    return policy


def forced_path(*, generic: bool) -> Any:
    """Context in which the update uses autograd and the rollout is SB3's if ``generic``."""
    if not generic:
        return nullcontext()
    return mock.patch.multiple(paths, standard_mlp=lambda _: None, can_collect=lambda *_: False)


def trained(
    space: spaces.Space[Any],
    *,
    generic: bool,
    n_envs: int = 2,
    n_updates: int = 2,
    observations: spaces.Space[Any] | None = None,
    policy: str | type[ActorCriticPolicy] = "MlpPolicy",
    **kwargs: Any,
) -> TRPO:
    """A trained model, by the generic path if ``generic``."""
    env = DummyVecEnv([lambda: RandomEnv(space, observations)] * n_envs)
    arguments = {"n_steps": 64, "batch_size": 64, "n_critic_updates": 3, "seed": 0, **kwargs}
    model = TRPO(policy, env, **arguments)
    assert standard_mlp(model.policy) is not None
    with forced_path(generic=generic):
        return model.learn(n_updates * 64 * n_envs)
