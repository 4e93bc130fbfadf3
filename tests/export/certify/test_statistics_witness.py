"""Statistics of another run or time are found by the number of their observations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize, VecTransposeImage

from tests.export.policies import BOX, SpaceEnv
from trpo_deploy.export import SourceOptions, export_model, export_policy
from trpo_deploy.export.certify.check import Check
from trpo_deploy.files.runs import find_run

NAME = "witness: statistics"
IMAGE = spaces.Box(0, 255, (8, 9, 3), np.uint8)


def trained(steps: int, n_envs: int = 2, space: spaces.Space[Any] = BOX, **kwargs: Any) -> Any:
    env: Any = DummyVecEnv([lambda: SpaceEnv(space, spaces.Discrete(2))] * n_envs)
    if space is IMAGE:
        env = VecTransposeImage(env)
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    model = PPO(policy, VecNormalize(env, **kwargs), n_steps=8, batch_size=16, n_epochs=1, seed=0)
    return model.learn(steps)


def exported(folder: Path, model: Any, statistics: Any) -> Check | None:
    model.save(folder / "model.zip")
    statistics.get_vec_normalize_env().save(str(folder / "vecnormalize.pkl"))
    reading = SourceOptions(image_layout="hwc")
    result = export_policy(find_run(folder / "model.zip"), folder / "out.onnx", reading=reading)
    return found_in(result)


def found_in(result: Any) -> Check | None:
    return next((each for each in result.certificate.checks if each.name == NAME), None)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"n_envs": 32},
        {"space": IMAGE},
        {"space": spaces.Dict({"a": BOX, "b": spaces.Discrete(3)}), "norm_obs_keys": ["a"]},
    ],
)
def test_own_statistics_are_of_as_many_observations_as_the_training(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    model = trained(64, **arguments)
    check = exported(tmp_path, model, model)
    assert check is not None
    assert check.passed, check.note
    in_memory = found_in(export_model(model, tmp_path / "memory.onnx"))
    assert in_memory is not None
    assert in_memory.measured == check.measured


@pytest.mark.parametrize(("steps", "of_statistics"), [(64, 256), (256, 64)])
def test_statistics_of_another_run_beside_the_zip_are_named(
    steps: int, of_statistics: int, tmp_path: Path
) -> None:
    check = exported(tmp_path, trained(steps), trained(of_statistics))
    assert check is not None
    assert check.passed is None
    assert f"of {of_statistics + 2} observations, and the policy of {steps} training" in check.note


def test_without_statistics_of_observations_nothing_is_compared(tmp_path: Path) -> None:
    rewards_only = trained(64, norm_obs=False)
    assert exported(tmp_path, rewards_only, rewards_only) is None
