"""Policy zips are read, and hostile ones are refused without running anything."""

from __future__ import annotations

import base64
import collections
import io
import json
import pickle
import resource
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
from tests.train.environments import RandomEnv
from trpo_deploy import TRPO
from trpo_deploy.errors import PolicyZipError, UnsafePickleError
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.sb3.statistics import read_vecnormalize


def save(path: Path, algorithm: type[Any] = TRPO, **kwargs: Any) -> Any:
    env = DummyVecEnv([lambda: RandomEnv(kwargs.pop("space", spaces.Discrete(3)))])
    model = algorithm("MlpPolicy", env, **kwargs)
    model.save(path)
    return model


def replaced(path: Path, name: str, content: bytes | None) -> Path:
    """A copy of the zip with one entry changed or left out."""
    changed = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.namelist():
            data = content if entry == name else source.read(entry)
            if data is not None:
                target.writestr(entry, data)
    return changed


def with_pickle(path: Path, entry: str, content: bytes) -> Path:
    """A copy of the zip with a pickle under one name of its data."""
    with zipfile.ZipFile(path) as source:
        data = json.loads(source.read("data"))
    data[entry] = {":type:": "x", ":serialized:": base64.b64encode(content).decode()}
    return replaced(path, "data", json.dumps(data).encode())


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
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [2, 3]]),
        spaces.MultiBinary([2, 3]),
        spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Box(0, 255, (4, 4, 3), np.uint8)}),
    ],
)
def test_every_space_comes_back_as_it_was(space: spaces.Space[Any], tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    space.seed(5)  # brings a random generator into the pickle
    space.sample()
    changed = with_pickle(tmp_path / "policy.zip", "observation_space", pickle.dumps(space))
    assert read_policy_zip(changed).observation_space == space


def test_statistics_come_back_to_the_last_bit(tmp_path: Path) -> None:
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


class Hostile:
    """Unpickling it the ordinary way writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, (f"__import__('pathlib').Path({str(self.target)!r}).touch()",))


@pytest.mark.parametrize(
    "entry", ["policy_class", "policy_kwargs", "observation_space", "action_space"]
)
def test_a_pickle_that_would_run_code_is_refused_and_did_not_run(
    entry: str, tmp_path: Path
) -> None:
    save(tmp_path / "policy.zip")
    target = tmp_path / "owned"
    content = pickle.dumps(Hostile(target))
    pickle.loads(content)
    assert target.exists(), "the pickle is hostile"
    target.unlink()
    changed = with_pickle(tmp_path / "policy.zip", entry, content)
    with pytest.raises(UnsafePickleError, match=r"builtins\.eval"):
        read_policy_zip(changed)
    run = run_cli("export", changed, "-o", tmp_path / "policy.onnx")
    run.assert_one_clear_line("builtins.eval", "nothing of it was run")
    assert not target.exists()
    assert not (tmp_path / "policy.onnx").exists()


def test_hostile_entries_that_nobody_needs_are_never_decoded(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    target = tmp_path / "owned"
    changed = with_pickle(tmp_path / "policy.zip", "lr_schedule", pickle.dumps(Hostile(target)))
    assert "lr_schedule" in read_policy_zip(changed).skipped
    assert not target.exists()


def test_hostile_statistics_and_weights_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "owned"
    (tmp_path / "vecnormalize.pkl").write_bytes(pickle.dumps(Hostile(target)))
    with pytest.raises(UnsafePickleError):
        read_vecnormalize(tmp_path / "vecnormalize.pkl")
    save(tmp_path / "policy.zip")
    weights = io.BytesIO()
    torch.save({"weight": Hostile(target)}, weights)
    with pytest.raises(PolicyZipError, match="no plain weights"):
        read_policy_zip(replaced(tmp_path / "policy.zip", "policy.pth", weights.getvalue()))
    assert not target.exists()


def test_allowed_names_cannot_be_called_for_effect(tmp_path: Path) -> None:
    """A class on the allow-list is a record like any other: it is not instantiated."""

    class Calls:
        def __reduce__(self) -> tuple[Any, ...]:
            return (torch.nn.ELU, (1, 2, 3, 4))  # would raise TypeError if called

    save(tmp_path / "policy.zip")
    changed = with_pickle(tmp_path / "policy.zip", "policy_kwargs", pickle.dumps({"x": Calls()}))
    with pytest.raises(UnsafePickleError, match="instance of torch"):
        read_policy_zip(changed)


@pytest.mark.parametrize("cut", [0, 1, 100, -100, -1])
def test_a_truncated_zip_is_refused(cut: int, tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    content = (tmp_path / "policy.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[:cut])
    with pytest.raises(PolicyZipError, match="truncated"):
        read_policy_zip(tmp_path / "cut.zip")


def test_a_damaged_zip_is_refused_wherever_it_is_damaged(tmp_path: Path) -> None:
    """Either the same policy or a refusal, and never another exception."""
    save(tmp_path / "policy.zip")
    content = bytearray((tmp_path / "policy.zip").read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 100):
        damaged = content.copy()
        damaged[position] ^= 0xFF
        (tmp_path / "damaged.zip").write_bytes(damaged)
        try:
            read_policy_zip(tmp_path / "damaged.zip").build_policy()
        except PolicyZipError:
            continue


def test_an_entry_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", b"")
        archive.writestr("data", b" " * (65 * 2**20))
    assert bomb.stat().st_size < 2**20
    with pytest.raises(PolicyZipError, match="more than"):
        read_policy_zip(bomb)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = save(tmp_path / "policy.zip")
    with torch.no_grad():
        model.policy.action_net.bias[0] = torch.nan
    model.save(tmp_path / "policy.zip")
    with pytest.raises(PolicyZipError, match=r"action_net\.bias.*NaN"):
        read_policy_zip(tmp_path / "policy.zip")


def test_what_is_no_policy_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(PolicyZipError, match="no policy zip"):
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


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    with zipfile.ZipFile(tmp_path / "policy.zip") as source:
        data = json.loads(source.read("data"))
    data["policy_kwargs"] = {"net_arch": [32]}
    changed = replaced(tmp_path / "policy.zip", "data", json.dumps(data).encode())
    with pytest.raises(PolicyZipError, match="do not make the policy"):
        read_policy_zip(changed).build_policy()


def test_the_old_way_to_write_a_network_is_understood(tmp_path: Path) -> None:
    model = save(tmp_path / "policy.zip", policy_kwargs={"net_arch": {"pi": [8], "vf": [4]}})
    with zipfile.ZipFile(tmp_path / "policy.zip") as source:
        data = json.loads(source.read("data"))
    data["policy_kwargs"] = {"net_arch": [{"pi": [8], "vf": [4]}]}
    changed = replaced(tmp_path / "policy.zip", "data", json.dumps(data).encode())
    policy = read_policy_zip(changed).build_policy()
    torch.testing.assert_close(policy.state_dict(), model.policy.state_dict())


def test_building_a_policy_leaves_the_random_state_alone(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    before = torch.random.get_rng_state()
    read_policy_zip(tmp_path / "policy.zip").build_policy()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_ordered_dictionaries_are_read(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    content = pickle.dumps(collections.OrderedDict(net_arch=[64, 64]))
    changed = with_pickle(tmp_path / "policy.zip", "policy_kwargs", content)
    assert read_policy_zip(changed).policy_kwargs == {"net_arch": [64, 64]}


# --- files that claim more than they hold -----------------------------------------------------


@pytest.mark.parametrize(
    "policy_kwargs",
    [
        {"net_arch": [10**6, 10**6]},
        {"net_arch": {"pi": [10**12], "vf": []}},
        {"net_arch": [1] * 10**5},
        {"net_arch": [10**6, {"pi": [10**6]}]},
        {"features_extractor_kwargs": {"features_dim": 10**9}},
    ],
)
def test_a_tiny_zip_that_names_a_huge_network_is_refused(
    policy_kwargs: dict[str, Any], tmp_path: Path
) -> None:
    save(tmp_path / "policy.zip")
    with zipfile.ZipFile(tmp_path / "policy.zip") as source:
        data = json.loads(source.read("data"))
    data["policy_kwargs"] = policy_kwargs
    changed = replaced(tmp_path / "policy.zip", "data", json.dumps(data).encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PolicyZipError, match="do not make the policy"):
        read_policy_zip(changed).build_policy()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 1024  # in kB; the networks named are terabytes


@pytest.mark.parametrize("space", [spaces.Discrete(10**12), spaces.MultiBinary(10**12)])
def test_a_huge_space_is_refused(space: spaces.Space[Any], tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    changed = with_pickle(tmp_path / "policy.zip", "observation_space", pickle.dumps(space))
    with pytest.raises(PolicyZipError, match="do not make the policy"):
        read_policy_zip(changed).build_policy()


def test_a_pickle_that_unfolds_is_read_once(tmp_path: Path) -> None:
    """Twenty lists, each ten times the last one, would be 10**20 items."""
    save(tmp_path / "policy.zip")
    value: list[Any] = []
    for _ in range(20):
        value = [value] * 10
    changed = with_pickle(tmp_path / "policy.zip", "policy_kwargs", pickle.dumps({"x": value}))
    with pytest.raises(PolicyZipError, match="unknown policy_kwargs"):
        read_policy_zip(changed)


def test_a_pickle_that_numbers_its_objects_high_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    content = b"\x80\x02]r\xff\xff\xff\x7f."  # LONG_BINPUT 2**31 - 1: room for 16 GB
    changed = with_pickle(tmp_path / "policy.zip", "policy_kwargs", content)
    with pytest.raises(PolicyZipError, match="numbers an object"):
        read_policy_zip(changed)


@pytest.mark.parametrize("depth", [10**5])
def test_deep_nesting_is_refused(depth: int, tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    changed = replaced(tmp_path / "policy.zip", "data", b"[" * depth)
    with pytest.raises(PolicyZipError, match="no JSON"):
        read_policy_zip(changed)
    content = b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."
    changed = with_pickle(tmp_path / "policy.zip", "policy_kwargs", content)
    with pytest.raises(PolicyZipError):
        read_policy_zip(changed)


def test_weights_that_repeat_one_number_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "policy.zip")
    content = io.BytesIO()
    torch.save({"x": torch.zeros(1).expand(10**6, 10**6)}, content)
    changed = replaced(tmp_path / "policy.zip", "policy.pth", content.getvalue())
    with pytest.raises(PolicyZipError, match="claims weights"):
        read_policy_zip(changed)


def test_weights_packed_within_the_zip_are_refused(tmp_path: Path) -> None:
    """The inner zip may be a bomb as well as the outer one."""
    save(tmp_path / "policy.zip")
    with zipfile.ZipFile(tmp_path / "policy.zip") as source:
        inner = zipfile.ZipFile(io.BytesIO(source.read("policy.pth")))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in inner.namelist():
            target.writestr(entry, inner.read(entry))
        target.writestr("archive/data/99", b"\0" * 2**24)
    changed = replaced(tmp_path / "policy.zip", "policy.pth", packed.getvalue())
    with pytest.raises(PolicyZipError, match="claim"):
        read_policy_zip(changed)


@pytest.mark.parametrize("name", ["SAC", "DQN", "RecurrentPPO"])
def test_other_kinds_of_policy_are_named(name: str, tmp_path: Path) -> None:
    space = spaces.Discrete(2) if name == "DQN" else spaces.Box(-1, 1, (1,))
    env = DummyVecEnv([lambda: RandomEnv(space)])
    algorithm = {"SAC": SAC, "DQN": DQN, "RecurrentPPO": sb3_contrib.RecurrentPPO}[name]
    kind = "MlpLstmPolicy" if name == "RecurrentPPO" else "MlpPolicy"
    algorithm(kind, env).save(tmp_path / "other.zip")
    run = run_cli("export", tmp_path / "other.zip", "-o", tmp_path / "policy.onnx")
    run.assert_one_clear_line("not supported", "TRPO, PPO or A2C")
    assert not (tmp_path / "policy.onnx").exists()
