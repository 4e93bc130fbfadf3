"""Networks of Stable-Baselines3 before 1.8, in which actor and critic share layers."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import nn


class SharedMlpExtractor(MlpExtractor):
    """Shared layers, then separate layers of the actor and the critic.

    Mirrors ``MlpExtractor`` of SB3 1.7. ``net_arch`` lists the sizes of the shared layers. Its
    last item may be a mapping with the sizes of the separate ones.
    """

    def __init__(
        self, feature_dim: int, net_arch: list[Any], activation_fn: type[nn.Module]
    ) -> None:
        own = net_arch[-1] if net_arch and isinstance(net_arch[-1], dict) else {}
        shared = [size for size in net_arch if not isinstance(size, dict)]
        last = shared[-1] if shared else feature_dim
        super().__init__(last, own, activation_fn, device="cpu")
        layers: list[nn.Module] = []
        for size in shared:
            layers += [nn.Linear(feature_dim, size), activation_fn()]
            feature_dim = size
        self.shared_net = nn.Sequential(*layers)

    def forward_actor(self, features: torch.Tensor) -> torch.Tensor:
        """The actor's latent features."""
        return super().forward_actor(self.shared_net(features))

    def forward_critic(self, features: torch.Tensor) -> torch.Tensor:
        """The critic's latent features."""
        return super().forward_critic(self.shared_net(features))


def with_shared_layers(policy_class: type[ActorCriticPolicy]) -> type[ActorCriticPolicy]:
    """The policy class with a :class:`SharedMlpExtractor`."""

    class WithSharedLayers(policy_class):  # type: ignore[misc, valid-type]
        def _build_mlp_extractor(self) -> None:
            self.mlp_extractor = SharedMlpExtractor(
                self.features_dim, self.net_arch, self.activation_fn
            )

    return WithSharedLayers
