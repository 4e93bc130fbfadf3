"""A policy and its statistics are read from a zip as the model saved them."""

from __future__ import annotations

import collections
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.command import run_cli
from tests.sb3.zips import save, with_pickle, with_policy_kwargs
from tests.train.environments import RandomEnv
from trpo_deploy import TRPO
from trpo_deploy.errors import PolicyZipError
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.sb3.statistics import read_vecnormalize


@pytest.mark.parametrize("algorithm", [TRPO, sb3_contrib.TRPO, PPO, A2C])
def test_a_policy_acts_as_the_model_that_saved_it(algorithm: type[Any], tmp_path: Path) -> None:
    kwargs = {"policy_kwargs": {"net_arch": [8], "activation_fn": torch.nn.ELU}}
    model = save(tmp_path / "policy.zip", algorithm, seed=0, **kwargs)
    read = read_policy_zip(tmp_path / "policy.zip")
    assert read.algorithm == algorithm.__name__
    assert read.observation_space == model.observation_space
    assert read.action_space == model.action_space
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    expected, _ = model.predict(observations, deterministic=True)
    found, _ = read.build_policy().predict(observations, deterministic=True)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(np.array([0.1, -np.inf]), np.array([0.2, np.inf]), dtype=np.float64),
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete(np.array([[2, 3], [4, 5]]), start=np.array([[0, 1], [2, 3]])),
        spaces.MultiBinary([2, 3]),
        spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Box(0, 255, (4, 4, 3), np.uint8)}),
    ],
)
def test_every_space_comes_back_as_it_was(space: spaces.Space[Any], tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    space.seed(5)  # puts a random generator into the pickle
    space.sample()
    changed = with_pickle(tmp_path / "policy.zip", "observation_space", pickle.dumps(space))
    assert read_policy_zip(changed).observation_space == space


def test_statistics_normalise_bit_for_bit_as_before(tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))]), clip_obs=5.0)
    env.reset()
    for _ in range(50):
        env.step(np.array([0]))
    env.save(str(tmp_path / "vecnormalize.pkl"))
    read = read_vecnormalize(tmp_path / "vecnormalize.pkl")
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_array_equal(read.normalize_obs(observations), env.normalize_obs(observations))
    assert float(read.ret_rms.var) == float(env.ret_rms.var)
    read.set_venv(DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))]))
    read.reset()


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    changed = with_policy_kwargs(tmp_path / "policy.zip", {"net_arch": [32]})
    with pytest.raises(PolicyZipError, match="do not fit the policy"):
        read_policy_zip(changed).build_policy()


def test_the_old_form_of_net_arch_is_read(tmp_path: Path) -> None:
    model = save(tmp_path / "policy.zip", policy_kwargs={"net_arch": {"pi": [8], "vf": [4]}})
    changed = with_policy_kwargs(tmp_path / "policy.zip", {"net_arch": [{"pi": [8], "vf": [4]}]})
    policy = read_policy_zip(changed).build_policy()
    torch.testing.assert_close(policy.state_dict(), model.policy.state_dict())


def test_building_a_policy_keeps_the_random_state(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    before = torch.random.get_rng_state()
    read_policy_zip(tmp_path / "policy.zip").build_policy()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_ordered_dictionaries_are_read(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    content = pickle.dumps(collections.OrderedDict(net_arch=[64, 64]))
    changed = with_pickle(tmp_path / "policy.zip", "policy_kwargs", content)
    assert read_policy_zip(changed).policy_kwargs == {"net_arch": [64, 64]}


@pytest.mark.parametrize("name", ["SAC", "DQN", "RecurrentPPO"])
def test_the_error_names_an_unsupported_policy(name: str, tmp_path: Path) -> None:
    space = spaces.Discrete(2) if name == "DQN" else spaces.Box(-1, 1, (1,))
    env = DummyVecEnv([lambda: RandomEnv(space)])
    algorithm = {"SAC": SAC, "DQN": DQN, "RecurrentPPO": sb3_contrib.RecurrentPPO}[name]
    kind = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    algorithm(kind, env).save(tmp_path / "other.zip")
    run = run_cli("export", tmp_path / "other.zip", "-o", tmp_path / "policy.onnx")
    run.assert_one_clear_line("not supported", "TRPO, PPO or A2C")
    assert not (tmp_path / "policy.onnx").exists()


def test_the_error_says_why_a_file_is_not_a_policy(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(PolicyZipError, match="not a policy zip"):
        read_policy_zip(tmp_path / "text.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(PolicyZipError, match="lacks"):
        read_policy_zip(tmp_path / "other.zip")
    with pytest.raises(PolicyZipError, match="No such file"):
        read_policy_zip(tmp_path / "nothing.zip")
    SAC("MlpPolicy", DummyVecEnv([lambda: RandomEnv(spaces.Box(-1, 1, (1,)))])).save(
        tmp_path / "sac.zip"
    )
    with pytest.raises(PolicyZipError, match="TRPO, PPO or A2C"):
        read_policy_zip(tmp_path / "sac.zip")
