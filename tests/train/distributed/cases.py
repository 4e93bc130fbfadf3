"""Short runs over all that the ranks of a run reduce."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from gymnasium import spaces

from tests.train.environments import RandomEnv
from tests.train.registration import register
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train import TrainConfig, follow, joined, load_config, train
from trpo_deploy.train.distributed.world import world

VECTOR = spaces.Box(-1, 1, (3,))
BOX = spaces.Box(-1, 1, (2,))
KEYS = spaces.Dict({"vector": VECTOR, "matrix": spaces.Box(-1, 1, (2, 2))})
IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)


class Case(NamedTuple):
    """A run of three updates with two environments, whose episodes end and are truncated."""

    actions: spaces.Space[Any] = BOX
    observations: spaces.Space[Any] = VECTOR
    settings: Mapping[str, Any] = MappingProxyType({})
    n_envs: int = 2


CASES = {
    "box": Case(),
    "discrete": Case(spaces.Discrete(3)),
    "multi discrete": Case(spaces.MultiDiscrete([2, 3])),
    "multi binary": Case(spaces.MultiBinary(3)),
    "dict": Case(BOX, KEYS, {"policy": "MultiInputPolicy", "normalize": True}),
    "image": Case(spaces.Discrete(3), IMAGE, {"policy": "CnnPolicy"}),
    "gSDE": Case(settings={"use_sde": True, "sde_sample_freq": 4}),
    "gSDE, several environments": Case(settings={"use_sde": True}, n_envs=4),
    "normalised": Case(settings={"normalize": True}, n_envs=4),
    "normalised rewards": Case(settings={"normalize": {"norm_obs": False}}),
    "scaled returns": Case(settings={"scale_returns": True}),
    "sub-sampled": Case(settings={"sub_sampling_factor": 3}),
    "sub-sampled Fisher matrix": Case(
        settings={"sub_sampling_factor": 2, "fisher_sub_sampling_factor": 5}
    ),
    "raw advantages": Case(settings={"normalize_advantage": False, "kl_reduction": "sum"}),
    "full batch": Case(settings={"critic_full_batch": True, "critic_max_grad_norm": 0.1}),
    "other optimiser": Case(settings={"policy_kwargs": {"optimizer_class": "torch.optim.SGD"}}),
    "few samples": Case(settings={"n_steps": 4, "batch_size": 3, "sub_sampling_factor": 4}),
}


def config_of(name: str) -> TrainConfig:
    """The configuration of a case, whose environment is registered."""
    case = CASES[name]
    env_id = f"Ranks/Case{list(CASES).index(name)}-v0"
    register(env_id, RandomEnv, action_space=case.actions, observation_space=case.observations)
    settings = {"n_steps": 32, "batch_size": 16, "n_critic_updates": 3, **case.settings}
    return load_config(
        env_id,
        n_timesteps=3 * settings["n_steps"] * case.n_envs,
        n_envs=case.n_envs,
        eval_every=10**6,
        eval_episodes=1,
        **settings,
    )


def train_all_cases(folder: Path) -> None:
    """Train each case; the function of a rank."""
    with joined():
        for name in CASES:
            train_case(name, folder)


def run_of(name: str, folder: Path) -> ModelDir:
    """The model folder of a case."""
    return ModelDir(folder / str(list(CASES).index(name)))


def train_case(name: str, folder: Path) -> ModelDir:
    """Train a case as this rank."""
    model, config = run_of(name, folder), config_of(name)
    if world().rank > 0:
        follow(config)
        return model
    # Plots take longer than the training.
    with mock.patch("trpo_deploy.train.run.plots.learning_curve", return_value=b""):
        train(config, model)
    return model
