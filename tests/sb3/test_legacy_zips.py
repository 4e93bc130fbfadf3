"""Zips in the form of old Stable-Baselines3 and gym versions act as they did."""

from __future__ import annotations

import base64
import io
import json
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO

from tests.export.policies import BOX, exported, make_model, save
from trpo_deploy.errors import ExportError
from trpo_deploy.export import ExportOptions, export_policy
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.sb3.policy_zip import read_policy_zip

Weights = dict[str, torch.Tensor]


def rewrite(folder: Path, weights: Weights, version: str, **entries: Any) -> Path:
    """Change a saved zip to the form of an old version; bytes are pickles."""
    path = folder / "policy.zip"
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    for name, value in entries.items():
        if isinstance(value, bytes):
            value = {":type:": "x", ":serialized:": base64.b64encode(value).decode()}
        data[name] = value
    content = io.BytesIO()
    torch.save(weights, content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", content.getvalue())
        archive.writestr("_stable_baselines3_version", version)
    return path


def linear(rng: np.random.Generator, outputs: int, inputs: int, name: str) -> Weights:
    return {
        f"{name}.weight": torch.tensor(rng.normal(size=(outputs, inputs)), dtype=torch.float32),
        f"{name}.bias": torch.tensor(rng.normal(size=outputs), dtype=torch.float32),
    }


def test_a_network_with_shared_layers_acts_as_written_out_by_hand(tmp_path: Path) -> None:
    """``net_arch=[6, dict(pi=[5], vf=[4])]``, against the network written out by hand."""
    rng = np.random.default_rng(0)
    save(make_model(BOX, spaces.Box(-9.0, 9.0, (2,)), algorithm=PPO), tmp_path)
    weights = {
        "log_std": torch.zeros(2),
        **linear(rng, 6, 3, "mlp_extractor.shared_net.0"),
        **linear(rng, 5, 6, "mlp_extractor.policy_net.0"),
        **linear(rng, 4, 6, "mlp_extractor.value_net.0"),
        **linear(rng, 2, 5, "action_net"),
        **linear(rng, 1, 4, "value_net"),
    }
    kwargs = pickle.dumps({"net_arch": [6, {"pi": [5], "vf": [4]}]})
    rewrite(tmp_path, weights, "1.0", policy_kwargs=kwargs)
    result = export_policy(
        find_run(tmp_path), tmp_path / "policy.onnx", options=ExportOptions(("value",))
    )
    assert result.spec.versions["stable-baselines3"] == "1.0"
    observations = rng.uniform(-1, 1, (50, 3)).astype(np.float32)

    def layer(x: Any, name: str) -> Any:
        return x @ weights[f"{name}.weight"].numpy().T + weights[f"{name}.bias"].numpy()

    shared = np.tanh(layer(observations, "mlp_extractor.shared_net.0"))
    latent = np.tanh(layer(shared, "mlp_extractor.policy_net.0"))
    expected = np.clip(layer(latent, "action_net"), -9, 9)
    found, _ = OnnxPolicy(result.path).predict(observations)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)  # float32, by hand


def test_a_plain_list_of_sizes_is_read_as_shared_layers(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    save(make_model(BOX, spaces.Discrete(3), algorithm=PPO), tmp_path)
    weights = {
        **linear(rng, 6, 3, "mlp_extractor.shared_net.0"),
        **linear(rng, 3, 6, "action_net"),
        **linear(rng, 1, 6, "value_net"),
    }
    rewrite(tmp_path, weights, "1.5.0", policy_kwargs={"net_arch": [6]})
    export_policy(find_run(tmp_path), tmp_path / "policy.onnx")


def test_an_extractor_that_was_saved_once_serves_actor_and_critic(tmp_path: Path) -> None:
    """SB3 before 1.7 did not save it again as the actor's and the critic's."""
    image = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    model = make_model(image, spaces.Discrete(3), "CnnPolicy", algorithm=PPO)
    save(model, tmp_path)
    weights = {
        name: tensor
        for name, tensor in model.policy.state_dict().items()
        if not name.startswith(("pi_features_extractor", "vf_features_extractor"))
    }
    assert len(weights) < len(model.policy.state_dict())
    path = rewrite(tmp_path, weights, "1.4.0")
    observations = np.random.default_rng(0).integers(0, 256, (9, 3, 36, 36), np.uint8)
    expected, _ = model.predict(observations, deterministic=True)
    found, _ = read_policy_zip(path).build_policy().predict(observations, deterministic=True)
    np.testing.assert_array_equal(found, expected)


def test_gsde_with_separate_noise_features_acts_and_refuses_its_std(tmp_path: Path) -> None:
    """The deterministic action is exact. The noise cannot be rebuilt, and the error says so."""
    rng = np.random.default_rng(2)
    model = make_model(BOX, BOX, algorithm=PPO, use_sde=True, policy_kwargs={"net_arch": [4]})
    save(model, tmp_path)
    weights = dict(model.policy.state_dict())
    weights |= linear(rng, 7, 3, "sde_features_extractor.0") | {"log_std": torch.zeros(7, 3)}
    rewrite(tmp_path, weights, "1.3.0", policy_kwargs={"net_arch": [4], "sde_net_arch": [7]})
    source = find_run(tmp_path)
    result = export_policy(source, tmp_path / "policy.onnx")
    observations = rng.uniform(-1, 1, (20, 3)).astype(np.float32)
    found, _ = OnnxPolicy(result.path).predict(observations)
    expected, _ = model.predict(observations, deterministic=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    with pytest.raises(ExportError, match="sde_net_arch"):
        export_policy(source, tmp_path / "std.onnx", options=ExportOptions(("std",)))


@contextmanager
def old_gym() -> Iterator[dict[str, type]]:
    """Fake the old package as far as pickles name it: classes whose state is their attributes."""
    names = {
        "box": "Box",
        "dict": "Dict",
        "discrete": "Discrete",
        "multi_binary": "MultiBinary",
        "multi_discrete": "MultiDiscrete",
    }
    before = dict(sys.modules)
    found = {}
    for module, name in names.items():
        full = f"gym.spaces.{module}"
        sys.modules[full] = types.ModuleType(full)
        found[name] = type(name, (), {"__module__": full})
        setattr(sys.modules[full], name, found[name])
    sys.modules["gym"], sys.modules["gym.spaces"] = types.ModuleType("gym"), types.ModuleType("g")
    try:
        yield found
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


def old(cls: type, **state: Any) -> Any:
    value = cls()
    value.__dict__.update(state)
    return value


@pytest.mark.parametrize("shape", ["shape", "_shape"])  # gym before and after 0.18
def test_spaces_of_old_gym_versions_are_read(shape: str, tmp_path: Path) -> None:
    low = np.array([-1.0, -np.inf], np.float32)
    with old_gym() as gym:
        random = {"np_random": np.random.RandomState(0)}
        box = old(
            gym["Box"],
            **{shape: (2,), "dtype": np.dtype(np.float32), **random},
            low=low,
            high=-low,
            bounded_below=np.isfinite(low),
            bounded_above=np.isfinite(low),
        )
        discrete = old(gym["Discrete"], n=4, **{shape: (), "dtype": np.dtype(np.int64), **random})
        multi = old(gym["MultiDiscrete"], nvec=np.array([2, 3]), **{shape: (2,)})
        binary = old(gym["MultiBinary"], n=3, **{shape: (3,), "dtype": np.dtype(np.int8)})
        keys = old(
            gym["Dict"],
            spaces=OrderedDict(z=box, a=discrete, m=multi, b=binary),
            **{shape: None, "dtype": None},
        )
        content = pickle.dumps(keys)
    save(make_model(), tmp_path)
    with zipfile.ZipFile(tmp_path / "policy.zip") as archive:
        weights = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    path = rewrite(tmp_path, weights, "1.1.0", observation_space=content)
    found = read_policy_zip(path).observation_space
    assert isinstance(found, spaces.Dict)
    # the order of the file is the order of the features
    assert list(found.spaces) == ["z", "a", "m", "b"]
    assert found["z"] == spaces.Box(low, -low)
    assert found["a"] == spaces.Discrete(4)
    assert found["m"] == spaces.MultiDiscrete([2, 3])
    assert found["b"] == spaces.MultiBinary(3)


def test_unsorted_keys_keep_their_order(tmp_path: Path) -> None:
    space = spaces.Dict(
        OrderedDict(zeta=spaces.Box(-1.0, 1.0, (2,)), alpha=spaces.Box(5.0, 6.0, (3,)))
    )
    model = make_model(space, BOX, "MultiInputPolicy")
    policy = OnnxPolicy(exported(model, tmp_path).path)
    space.seed(0)
    observation = space.sample()
    found, _ = policy.predict(observation)
    expected, _ = model.predict(observation, deterministic=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_a_custom_optimizer_does_not_prevent_the_export(tmp_path: Path) -> None:
    from stable_baselines3 import A2C
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    model = make_model(
        algorithm=A2C,
        policy_kwargs={"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"eps": 1e-5}},
    )
    exported(model, tmp_path)
