"""A trained policy as Stable-Baselines3 runs it, from raw observation to environment's action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.spec import Array


@dataclass(frozen=True, eq=False)
class SB3Policy:
    """``VecNormalize.normalize_obs``, then ``policy.predict``.

    SB3's own classes do all of it, so this is what an exported file is held against.
    """

    policy: ActorCriticPolicy
    statistics: VecNormalize | None

    def actions(self, observations: Array, deterministic: bool = True) -> Array:
        """Actions for a batch of raw observations, ready for the environment."""
        actions, _ = self.policy.predict(
            self._normalized(observations), deterministic=deterministic
        )
        return np.asarray(actions)

    def parameters(self, observations: Array) -> Array:
        """What the last layer gives for raw observations: mean or logits, ``(batch, n)``."""
        tensor, _ = self.policy.obs_to_tensor(self._normalized(observations))
        with torch.no_grad():
            features = self.policy.extract_features(tensor, self.policy.pi_features_extractor)
            assert isinstance(features, torch.Tensor)
            latent = self.policy.mlp_extractor.forward_actor(features)
            parameters: Array = self.policy.action_net(latent).cpu().numpy()
        return parameters

    def _normalized(self, observations: Array) -> Any:
        if self.statistics is None:
            return observations
        return self.statistics.normalize_obs(observations)
