"""A run that cannot be resumed is refused, and its folder stays as it was."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from tests.train.checkpoint.runs import contents, short_config, train_interrupted
from tests.train.environments import RandomEnv
from tests.train.registration import register
from trpo_deploy.errors import ConfigError, ModelDirError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train import train
from trpo_deploy.train.checkpoint.checkpoint import read_checkpoint

pytestmark = pytest.mark.usefixtures("undrawn_curves")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> ModelDir:
    folder = ModelDir(tmp_path_factory.mktemp("models") / "m")
    train_interrupted(short_config("CartPole-v1"), folder, update=3)
    return folder


@pytest.mark.parametrize(
    ("env_id", "settings", "flags", "says"),
    [
        ("Acrobot-v1", (), {}, "env_id='CartPole-v1', not 'Acrobot-v1'"),
        ("CartPole-v1", ("gamma=0.9",), {}, "gamma=0.99, not 0.9"),
        ("CartPole-v1", (), {"n_envs": 3}, "n_envs=2, not 3"),
        ("CartPole-v1", (), {"seed": 1}, "seed=0, not 1"),
        ("CartPole-v1", ("normalize=true",), {}, "normalize=False, not True"),
        ("CartPole-v1", ("policy_kwargs={net_arch: [8]}",), {}, "policy_kwargs=None, not "),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(
    env_id: str, settings: tuple[str, ...], flags: dict[str, Any], says: str, stopped: ModelDir
) -> None:
    before = contents(stopped)
    with pytest.raises(ConfigError, match=says):
        train(short_config(env_id, *settings, preset="CartPole-v1", **flags), stopped, resume=True)
    assert contents(stopped) == before


class Unknown(RandomEnv):
    """Takes an argument that may be NaN."""

    def __init__(self, mass: float) -> None:
        super().__init__(spaces.Discrete(2))
        self.mass = mass


register("Unknown-v0", Unknown)


def test_nan_as_an_argument_equals_itself(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "m")
    train_interrupted(short_config("Unknown-v0", env_args=["mass=.nan"]), folder, update=2)
    result = train(short_config("Unknown-v0", env_args=["mass=.nan"]), folder, resume=True)
    assert result.timesteps == 1536
    with pytest.raises(ConfigError, match=r"env_kwargs=\{'mass': nan\}, not \{'mass': 1.0\}"):
        train(short_config("Unknown-v0", env_args=["mass=1.0"]), folder, resume=True)


class Resized(RandomEnv):
    """Has an observation space that depends on a class attribute."""

    size = 3

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2), spaces.Box(-1, 1, (self.size,)))


def test_a_run_is_not_resumed_in_other_spaces(tmp_path: Path) -> None:
    register("Resized-v0", Resized)
    folder = ModelDir(tmp_path / "m")
    train_interrupted(short_config("Resized-v0"), folder, update=3)
    Resized.size = 4
    with pytest.raises(ConfigError, match=r"space is Box\(.*\(4,\).* has Box\(.*\(3,\)"):
        train(short_config("Resized-v0"), folder, resume=True)


def test_a_policy_without_a_checkpoint_is_kept(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path)
    folder.policy_zip.write_bytes(b"precious")
    folder.config.write_text("env_id: CartPole-v1")
    with pytest.raises(ModelDirError, match="no checkpoint"):
        train(short_config("CartPole-v1"), folder, resume=True)
    assert folder.policy_zip.read_bytes() == b"precious"


def _arrays(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


class Evil:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        _arrays(other=1),
        _arrays(structure=np.array([Evil()])),
        _arrays(structure="[1]"),
        _arrays(structure='{"kind": "dict", "items": [["format", 99]]}'),
        _arrays(structure='{"kind": "dict", "items": [["format", 1]]}'),
        _arrays(structure='{"kind": "generator", "state": {"kind": "dict", "items": []}}'),
    ],
)
def test_another_file_is_refused_and_not_unpickled(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = ModelDir(tmp_path / "m")
    folder.checkpoint.parent.mkdir(parents=True)
    folder.checkpoint.write_bytes(content)
    with pytest.raises(ModelDirError, match="not a readable checkpoint"):
        train(short_config("CartPole-v1"), folder, resume=True)
    assert not (tmp_path / "unpickled").exists()


def test_a_truncated_checkpoint_is_refused(stopped: ModelDir, tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "m")
    folder.checkpoint.parent.mkdir(parents=True)
    folder.checkpoint.write_bytes(stopped.checkpoint.read_bytes()[:-100])
    with pytest.raises(ModelDirError, match="not a readable checkpoint"):
        read_checkpoint(folder)


class Extractor(FlattenExtractor):
    """A class of the user's, whose code changes between two runs."""

    width = 4

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space)
        self._features_dim = self.width
        self.linear = nn.Linear(4, self.width)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.linear(super().forward(observations))
        return features


def test_a_checkpoint_that_does_not_fit_changes_no_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ModelDir(tmp_path / "m")
    extractor = f"policy_kwargs={{features_extractor_class: {__name__}.Extractor}}"
    config = short_config("CartPole-v1", extractor)
    train(config, folder)
    before = contents(folder)
    monkeypatch.setattr(Extractor, "width", 8)
    with pytest.raises(ConfigError, match="does not fit the policy or the environment"):
        train(replace(config, n_timesteps=3000), folder, resume=True)
    kept = (folder.policy_zip, folder.checkpoint, folder.best.policy_zip)
    after = contents(folder)
    assert all(after[str(path)] == before[str(path)] for path in kept)


def test_a_run_is_not_resumed_in_another_environment_of_that_id(tmp_path: Path) -> None:
    folder, config = ModelDir(tmp_path / "m"), short_config("Robot-v0")
    register("Robot-v0", Robot)
    train(config, folder)
    before = contents(folder)
    gymnasium.registry.pop("Robot-v0")
    register("Robot-v0", Arm)
    with pytest.raises(ConfigError, match="does not fit"):
        train(replace(config, n_timesteps=3000), folder, resume=True)
    assert contents(folder)[str(folder.policy_zip)] == before[str(folder.policy_zip)]


class Robot(RandomEnv):
    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))


class Arm(Robot):
    """Has the same spaces as a robot, and another class name."""
