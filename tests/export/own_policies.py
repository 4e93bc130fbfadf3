"""Subclasses of SB3's policies, importable by name."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn


class OwnTraining(ActorCriticPolicy):
    """Acts like its base class."""

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        return super().forward(obs, deterministic)


class OwnPrediction(ActorCriticPolicy):
    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        return -super()._predict(observation, deterministic)


class OwnObservation(ActorCriticPolicy):
    def obs_to_tensor(self, observation: Any) -> tuple[PyTorchObs, bool]:
        return super().obs_to_tensor(observation * np.float32(0.5))


class OwnScale(ActorCriticPolicy):
    def unscale_action(self, scaled_action: Any) -> Any:
        return super().unscale_action(scaled_action) * np.float32(0.5)


class NoLayers(nn.Module):
    """Passes the features on."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.latent_dim_pi = self.latent_dim_vf = features

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features, features

    def forward_actor(self, features: Tensor) -> Tensor:
        return features

    def forward_critic(self, features: Tensor) -> Tensor:
        return features


class OwnNetwork(ActorCriticPolicy):
    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor: Any = NoLayers(self.features_dim)
