"""Small seeded policies with random weights, saved the way Stable-Baselines3 saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import sb3_contrib
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from trpo_deploy.export import Export, export_policy
from trpo_deploy.files.runs import Run, find_run

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
FEATURES = {"CnnPolicy": {"features_dim": 16}, "MultiInputPolicy": {"cnn_output_dim": 16}}
"""Of an image. By default there are hundreds, which take most of the time of an export."""


class SpaceEnv(gymnasium.Env[Any, Any]):
    """Random legal observations; every step has reward 1."""

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.observation_space.seed(seed)
        self._steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action, self.action_space.dtype)), action
        self._steps += 1
        return self.observation_space.sample(), 1.0, False, self._steps >= 5, {}


def make_model(
    observation_space: spaces.Space[Any] = BOX,
    action_space: spaces.Space[Any] = BOX,
    policy: str | type = "MlpPolicy",
    *,
    algorithm: type[BaseAlgorithm] = sb3_contrib.TRPO,
    seed: int = 0,
    **kwargs: Any,
) -> Any:
    """A model whose weights, biases and standard deviations are all random.

    It has few features of an image, unless ``policy_kwargs`` say how many.
    """
    env = DummyVecEnv([lambda: SpaceEnv(observation_space, action_space)])
    network = kwargs.pop("policy_kwargs", None) or {}
    if policy in FEATURES and "features_extractor_class" not in network:
        network = {"features_extractor_kwargs": FEATURES[str(policy)], **network}
    model = algorithm(policy, env, seed=seed, policy_kwargs=network, **kwargs)
    randomize(model.policy, seed)
    return model


def randomize(policy: torch.nn.Module, seed: int = 0) -> None:
    """Draw all parameters at random, scaled so that outputs stay of order one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            scale = 0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def statistics_for(
    observation_space: spaces.Space[Any], seed: int = 0, **kwargs: Any
) -> VecNormalize:
    """A normaliser with random statistics for a Box or for a Dict."""
    env = DummyVecEnv([lambda: SpaceEnv(observation_space, spaces.Discrete(2))])
    normalize = VecNormalize(env, **kwargs)
    rng = np.random.default_rng(seed)
    rms: Any = normalize.obs_rms
    for each in rms.values() if isinstance(rms, dict) else [rms]:
        each.mean = rng.normal(size=each.mean.shape)
        each.var = rng.uniform(0.1, 4.0, size=each.var.shape)
    return normalize


def save(model: Any, folder: Path, statistics: VecNormalize | None = None) -> Run:
    """Write the files of a model folder that an export needs."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "policy.zip")
    if statistics is not None:
        statistics.save(str(folder / "vecnormalize.pkl"))
    return find_run(folder)


def exported(
    model: Any, folder: Path, statistics: VecNormalize | None = None, **kwargs: Any
) -> Export:
    """Save and export with the default certificate."""
    return export_policy(save(model, folder, statistics), folder / "policy.onnx", **kwargs)
