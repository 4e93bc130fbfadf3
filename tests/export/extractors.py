"""A features extractor of a user's own, to be imported by name."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn


class Residual(BaseFeaturesExtractor):
    """Two layers around a shortcut, which no list of layers could say."""

    def __init__(self, observation_space: spaces.Box, features_dim: int = 6) -> None:
        super().__init__(observation_space, features_dim)
        self.first = nn.Linear(observation_space.shape[0], features_dim)
        self.second = nn.Linear(features_dim, features_dim)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        first = self.first(observations)
        return first + torch.relu(self.second(first))


class Normalized(BaseFeaturesExtractor):
    """With the statistics of batches, which a trained policy has learnt once."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 5)
        self.layers = nn.Sequential(nn.Linear(observation_space.shape[0], 5), nn.BatchNorm1d(5))
        with torch.no_grad():
            self.layers[1].running_mean += 0.5
            self.layers[1].running_var *= 3

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


class KeyedSum(BaseFeaturesExtractor):
    """Of an observation with keys."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, 4)
        self.a = nn.Linear(spaces.flatdim(observation_space["a"]), 4)
        self.b = nn.Linear(spaces.flatdim(observation_space["b"]), 4)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.tanh(self.a(observations["a"])) + self.b(observations["b"])
