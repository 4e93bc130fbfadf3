"""Custom features extractors, importable by name."""

from __future__ import annotations

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


class Residual(BaseFeaturesExtractor):
    """Two layers with a shortcut, which a list of layers cannot express."""

    def __init__(self, observation_space: spaces.Box, features_dim: int = 6) -> None:
        super().__init__(observation_space, features_dim)
        self.first = nn.Linear(observation_space.shape[0], features_dim)
        self.second = nn.Linear(features_dim, features_dim)

    def forward(self, observations: Tensor) -> Tensor:
        first: Tensor = self.first(observations)
        return first + torch.relu(self.second(first))


class Normalized(BaseFeaturesExtractor):
    """Batch normalisation with trained statistics."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 5)
        self.linear = nn.Linear(observation_space.shape[0], 5)
        self.norm = nn.BatchNorm1d(5)
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        self.norm.running_mean += 0.5
        self.norm.running_var *= 3

    def forward(self, observations: Tensor) -> Tensor:
        features: Tensor = self.norm(self.linear(observations))
        return features


class KeyedSum(BaseFeaturesExtractor):
    """The sum of two branches of a Dict observation."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, 4)
        self.a = nn.Linear(spaces.flatdim(observation_space["a"]), 4)
        self.b = nn.Linear(spaces.flatdim(observation_space["b"]), 4)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        features: Tensor = torch.tanh(self.a(observations["a"])) + self.b(observations["b"])
        return features


class ExportAware(BaseFeaturesExtractor):
    """Computes something else while it is exported, so that the file differs from the policy."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, observation_space.shape[0])

    def forward(self, observations: Tensor) -> Tensor:
        return observations if torch.onnx.is_in_onnx_export() else 2.0 * observations


class OneRow(Residual):
    """Writes the batch size as the number 1."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).view(1, -1)


class BatchInTheGraph(Residual):
    """Right in torch; the traced graph has the example's batch size as a constant."""

    def forward(self, observations: Tensor) -> Tensor:
        return super().forward(observations).view(int(observations.shape[0]), -1)


class Centred(Residual):
    """The features of a row depend on the other rows of its batch."""

    def forward(self, observations: Tensor) -> Tensor:
        features = super().forward(observations)
        return features - features.mean(dim=0)


class Attention(Residual):
    """Attention between the numbers of an observation; ONNX has it since opset 14."""

    def forward(self, observations: Tensor) -> Tensor:
        tokens = super().forward(observations).unsqueeze(-1)
        attended: Tensor = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return attended.squeeze(-1)


class FixedView(BaseFeaturesExtractor):
    """Writes the batch size as a number, so that it runs for one row only."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, observation_space.shape[0])

    def forward(self, observations: Tensor) -> Tensor:
        return torch.tanh(observations.view(1, self.features_dim))
