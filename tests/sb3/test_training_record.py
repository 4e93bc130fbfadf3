"""The record of the training is read from every zip, and never stands in the way of a policy."""

from __future__ import annotations

import pickle
import resource
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.command import run_cli
from tests.export.policies import BOX, SpaceEnv
from tests.sb3.test_hostile_files import Hostile
from tests.sb3.zips import with_pickle
from trpo_deploy import TRPO
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.sb3.training_record import TrainingRecord, read_training_record

KEYS = spaces.Dict({"a": BOX, "b": spaces.Discrete(3)})


def trained(
    path: Path,
    algorithm: type[Any] = sb3_contrib.TRPO,
    space: spaces.Space[Any] = BOX,
    *,
    normalize: bool = False,
) -> Any:
    """A model after one short rollout of two environments, saved."""
    env: Any = DummyVecEnv([lambda: Monitor(SpaceEnv(space, spaces.Discrete(2)))] * 2)
    if normalize:
        keys = ["a"] if isinstance(space, spaces.Dict) else None
        env = VecNormalize(env, norm_obs_keys=keys)
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    more = {} if algorithm is A2C else {"batch_size": 16}
    model = algorithm(policy, env, n_steps=16, seed=0, **more)
    model.learn(32)
    model.save(path)
    return model


@pytest.mark.parametrize("algorithm", [TRPO, sb3_contrib.TRPO, PPO, A2C])
@pytest.mark.parametrize(
    ("space", "normalize"),
    [(BOX, False), (BOX, True), (KEYS, False), (KEYS, True), (spaces.MultiBinary(4), False)],
)
def test_a_zip_has_what_the_model_had(
    algorithm: type[Any], space: spaces.Space[Any], normalize: bool, tmp_path: Path
) -> None:
    model = trained(tmp_path / "policy.zip", algorithm, space, normalize=normalize)
    found = read_policy_zip(tmp_path / "policy.zip").training_record
    assert not found.unreadable
    assert found.was_trained
    assert found.n_envs == 2
    assert found.episode_returns is not None
    assert found.episode_returns.tolist() == [each["r"] for each in model.ep_info_buffer]
    for mine, its in (
        (found.last_observation, model._last_obs),
        (found.last_original_observation, model._last_original_obs),
    ):
        if its is None:
            assert mine is None
            continue
        assert mine is not None
        expected = its if isinstance(its, dict) else {"obs": its}
        assert list(mine) == list(expected)
        for key, array in expected.items():
            assert mine[key].dtype == array.dtype
            np.testing.assert_array_equal(mine[key], array)
    assert (found.last_original_observation is not None) == normalize
    in_memory = read_training_record(vars(model).get)
    assert in_memory.episode_returns is not None
    assert in_memory.episode_returns.tolist() == found.episode_returns.tolist()


def test_a_model_that_was_not_trained_has_no_record(tmp_path: Path) -> None:
    PPO("MlpPolicy", DummyVecEnv([lambda: SpaceEnv(BOX, BOX)])).save(tmp_path / "policy.zip")
    found = read_policy_zip(tmp_path / "policy.zip").training_record
    assert (found.was_trained, found.episode_returns, found.n_envs) == (False, None, 1)


BAD = {
    "of another class": pickle.dumps(BOX),
    "of objects": pickle.dumps(deque([{"r": BOX}])),
    "without returns": pickle.dumps(deque([{"l": 3}])),
    "not finite": pickle.dumps(deque([{"r": np.nan}, {"r": 1.0}])),
    "of text": pickle.dumps(deque([{"r": "many"}])),
    "truncated": pickle.dumps(deque([{"r": 1.0}]))[:-4],
    "of unknown names": pickle.dumps(deque([{"r": 1.0, "path": Path()}])),
    "empty": b"",
}


@pytest.mark.parametrize("entry", ["_last_obs", "_last_original_obs", "ep_info_buffer"])
@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_damaged_entry_is_named_and_the_policy_is_read(
    content: bytes, entry: str, tmp_path: Path
) -> None:
    trained(tmp_path / "policy.zip")
    read = read_policy_zip(with_pickle(tmp_path / "policy.zip", entry, content))
    assert list(read.training_record.unreadable) == [entry]
    assert str(tmp_path) not in read.training_record.unreadable[entry], "it goes into certificates"
    assert read.training_record.was_trained is (entry == "ep_info_buffer")
    read.build_policy()


def test_a_hostile_entry_runs_no_code_and_the_policy_is_exported(tmp_path: Path) -> None:
    trained(tmp_path / "policy.zip")
    target = tmp_path / "owned"
    hostile = pickle.dumps(Hostile(target))
    changed = with_pickle(tmp_path / "policy.zip", "ep_info_buffer", hostile)
    run = run_cli("export", changed, "-o", tmp_path / "policy.onnx")
    assert run.code == 0, run.error
    assert not target.exists()


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0)])
@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_memory_layout_come_back(
    protocol: int, axes: tuple[int, ...], tmp_path: Path
) -> None:
    """``VecTransposeImage`` gives transposed arrays, which NumPy pickles in their own way."""
    trained(tmp_path / "policy.zip")
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(axes)
    content = pickle.dumps(array, protocol=protocol)
    read = read_policy_zip(with_pickle(tmp_path / "policy.zip", "_last_obs", content))
    assert read.training_record.last_observation is not None
    np.testing.assert_array_equal(read.training_record.last_observation["obs"], array)


class Shared:
    """Pickled as an array of bytes that all instances refer to."""

    CONTENT = bytes(2**23)

    def __reduce__(self) -> tuple[Any, ...]:
        from_buffer: Any = np.zeros(1).__reduce_ex__(5)[0]
        shape = (len(self.CONTENT),)
        return from_buffer, (self.CONTENT, np.dtype(np.uint8), shape, "C")


def test_arrays_that_share_bytes_do_not_exhaust_memory(tmp_path: Path) -> None:
    """A thousand arrays of the same 8 MB would take 8 GB."""
    trained(tmp_path / "policy.zip")
    content = pickle.dumps([Shared() for _ in range(1000)], protocol=4)
    assert len(content) < 2**24
    changed = with_pickle(tmp_path / "policy.zip", "_last_obs", content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = read_policy_zip(changed)
    assert "far larger" in read.training_record.unreadable["_last_obs"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # kB


def test_zips_of_2021_have_a_record(agents: Path) -> None:
    found: dict[str, TrainingRecord] = {
        path.stem: read_policy_zip(path).training_record for path in sorted(agents.glob("*/*.zip"))
    }
    assert {name: each.last_original_observation is not None for name, each in found.items()} == {
        "CartPole-v1": False,
        "HalfCheetah-v3": True,
        "MountainCar-v0": True,
        "Pendulum-v1": False,
        "ReacherBulletEnv-v0": True,
    }
    for each in found.values():
        assert each.was_trained
        assert not each.unreadable
        assert each.n_envs == 2
        assert each.episode_returns is not None
        assert len(each.episode_returns) == 100
