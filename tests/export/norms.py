"""Policies and extractors whose networks have norms, importable by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

WIDTH = 6


def batch_norm(width: int, **keywords: Any) -> nn.Module:
    """A batch norm with trained statistics."""
    norm = nn.BatchNorm1d(width, **keywords)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean += 0.5
    norm.running_var *= 3
    return norm


NORMS: Mapping[str, Any] = {
    "layer norm": nn.LayerNorm,
    "layer norm, large epsilon": partial(nn.LayerNorm, eps=0.3),
    "layer norm without weight": partial(nn.LayerNorm, elementwise_affine=False),
    "layer norm without bias": partial(nn.LayerNorm, bias=False),
    "RMS norm": nn.RMSNorm,
    "RMS norm without weight": partial(nn.RMSNorm, eps=0.3, elementwise_affine=False),
    "batch norm": batch_norm,
    "batch norm without weight": partial(batch_norm, eps=0.3, affine=False),
}
"""From the width to the norm, by what is special about it."""


class Normed(ActorCriticPolicy):
    """A layer norm of the features, and one before and after each activation."""

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        for name in ("policy_net", "value_net"):
            net = getattr(self.mlp_extractor, name)
            setattr(self.mlp_extractor, name, nn.Sequential(*self._with_norms(net)))

    def _with_norms(self, net: nn.Sequential) -> Iterator[nn.Module]:
        yield nn.LayerNorm(self.features_dim, eps=1e-2)
        width = self.features_dim
        for layer in net:
            width = layer.out_features if isinstance(layer, nn.Linear) else width
            yield nn.Sequential(layer, nn.LayerNorm(width))


class NormedDict(Normed, MultiInputActorCriticPolicy):
    """The same for an observation with keys."""


class NormAndTanh(nn.Sequential):
    """A layer norm and an activation, for ``activation_fn``."""

    def __init__(self) -> None:
        super().__init__(nn.LayerNorm(WIDTH), nn.Tanh())


class OtherNorms(nn.Sequential):
    """The other norms and an activation, for ``activation_fn``."""

    def __init__(self) -> None:
        super().__init__(nn.RMSNorm(WIDTH), nn.ELU(), batch_norm(WIDTH), nn.Dropout())


class NormedExtractor(BaseFeaturesExtractor):
    """An extractor of its own, whose layer norms are traced."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, WIDTH)
        inputs = spaces.flatdim(observation_space)
        self.net = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, WIDTH), nn.RMSNorm(WIDTH))
        self.after = nn.LayerNorm(WIDTH, elementwise_affine=False)

    def forward(self, observations: Tensor) -> Tensor:
        features: Tensor = self.after(self.net(observations).relu())
        return features


class NormedParts(BaseFeaturesExtractor):
    """Two branches of a Dict observation, each with a layer norm."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, WIDTH)
        self.parts = nn.ModuleDict(
            {
                key: nn.Sequential(nn.Linear(spaces.flatdim(each), WIDTH), nn.LayerNorm(WIDTH))
                for key, each in observation_space.items()
            }
        )

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        return sum((self.parts[key](each) for key, each in observations.items()), Tensor([0.0]))
