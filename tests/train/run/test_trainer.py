"""A run writes a complete model folder, and nothing when it cannot start."""

from __future__ import annotations

import csv
import itertools
import shutil
from pathlib import Path
from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.train.environments import RandomEnv
from tests.train.registration import register
from trpo_deploy.errors import ConfigError, EnvError, ModelDirError, SpaceError
from trpo_deploy.export import SourceOptions, export_policy
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.runs import find_run
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.play import evaluate
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.sb3.statistics import read_vecnormalize
from trpo_deploy.train import load_config, train
from trpo_deploy.train.run.model import check_device, choose_device
from trpo_deploy.train.run.trainer import Reports


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ModelDir:
    folder = ModelDir(tmp_path_factory.mktemp("models") / "pendulum")
    config = load_config(
        "Pendulum-v1",
        settings=["n_steps=128", "normalize=true", "use_sde=false", "sde_sample_freq=-1"],
        n_timesteps=1024,
        eval_every=512,
        eval_episodes=2,
    )
    train(config, folder)
    return folder


def test_the_model_folder_contains_exactly_these_files(run: ModelDir) -> None:
    names = {str(path.relative_to(run.root)) for path in run.root.rglob("*") if path.is_file()}
    assert names == {
        "README.md",
        "best/policy.zip",
        "best/vecnormalize.pkl",
        "checkpoint/checkpoint.npz",
        "config.yaml",
        "evaluations.npz",
        "learning_curve.png",
        "policy.zip",
        "progress.csv",
        "vecnormalize.pkl",
    }


def test_evaluations_are_in_sb3s_layout(run: ModelDir) -> None:
    with np.load(run.evaluations) as evaluations:
        assert evaluations["timesteps"].tolist() == [0, 512, 1024]
        assert evaluations["results"].shape == evaluations["ep_lengths"].shape == (3, 2)


def test_the_log_has_a_row_per_update(run: ModelDir) -> None:
    with run.progress.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # SB3 writes a row before each update, with the values of the previous one; the last update
    # has a row of its own.
    assert [int(row["time/total_timesteps"]) for row in rows] == [256, 512, 768, 1024, 1024]
    assert [row["train/n_updates"] for row in rows] == ["", "1", "2", "3", "4"]
    assert all(float(row["train/kl_divergence_loss"]) < 0.01 for row in rows[1:])


def test_the_log_has_the_diagnostics_of_each_update(run: ModelDir) -> None:
    with run.progress.open(newline="") as file:
        row = list(csv.DictReader(file))[-2]
    for name in (
        "train/kl_true",
        "train/surrogate_gain",
        "train/surrogate_gain_expected",
        "train/line_search_step",
        "train/cg_residual",
        "train/explained_variance",
    ):
        assert np.isfinite(float(row[name])), name
    # One phase alone is faster than both together.
    assert float(row["time/rollout_fps"]) > float(row["time/fps"])
    assert float(row["time/update_fps"]) > float(row["time/fps"])
    assert row["time/update_path"] == "standard MLP"
    assert row["time/rollout_path"] in ("compiled", "NumPy")  # with a C compiler or without


def test_the_configuration_contains_settings_of_flags_and_preset(run: ModelDir) -> None:
    config = read_yaml(run.config)
    assert config["env_id"] == "Pendulum-v1"
    assert config["hyperparameters"]["n_steps"] == 128
    assert config["hyperparameters"]["gamma"] == 0.9  # from the preset


def test_the_saved_policy_and_statistics_are_readable_and_play_reproducibly(run: ModelDir) -> None:
    assert read_policy_zip(run.policy_zip).num_timesteps == 1024
    statistics = read_vecnormalize(run.vecnormalize)
    running: Any = statistics.obs_rms
    assert running.count > 1024
    played = evaluate(run.root, backend="torch", episodes=3, seed=5)
    again = evaluate(run.root, backend="torch", episodes=3, seed=5)
    np.testing.assert_array_equal(played.returns, again.returns)


def test_a_run_stops_at_stop_return(tmp_path: Path) -> None:
    config = load_config(
        "CartPole-v1", n_timesteps=5000, eval_every=1024, eval_episodes=3, stop_return=1.0
    )
    result = train(config, ModelDir(tmp_path / "m"))
    assert result.stopped_early
    assert 0 < result.best.timesteps <= result.timesteps < 2000
    # The saved policy is the evaluated one: the same seeds give the same returns.
    played = evaluate(tmp_path / "m", backend="torch", episodes=3, seed=1_000_000)
    assert played.returns.mean() == pytest.approx(result.last.mean)
    assert result.timesteps == result.last.timesteps


@pytest.mark.parametrize(
    ("env_id", "arguments", "error", "says"),
    [
        ("CartPole-v9", {}, EnvError, "CartPole-v9"),
        ("TupleActions-v0", {}, SpaceError, "Tuple"),
        ("CartPole-v1", {"preset": "Pendulum-v1"}, ConfigError, "continuous actions"),
        (
            "CartPole-v1",
            {"settings": ["policy=CnnPolicy"]},
            ConfigError,
            r"cannot make TRPO .* for CartPole-v1.*CNN",
        ),
        (
            "CartPole-v1",
            {"settings": ["n_steps=1", "batch_size=1"], "n_envs": 1},
            ConfigError,
            r"n_steps \* n_envs.*greater than 1",
        ),
        (
            "CartPole-v1",
            {"settings": ["policy=MultiInputPolicy"]},
            SpaceError,
            "MultiInputPolicy needs a Dict",
        ),
        ("CartPole-v1", {"device": "gpu"}, ConfigError, "expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_nothing_is_written_when_a_run_cannot_start(
    env_id: str, arguments: dict[str, Any], error: type[Exception], says: str, tmp_path: Path
) -> None:
    folder = ModelDir(tmp_path / "m")
    with pytest.raises(error, match=says):
        train(load_config(env_id, **arguments), folder)
    assert not folder.root.exists()


@pytest.mark.parametrize(
    ("n_gpus", "device", "says"),
    [(0, "cuda", "finds no GPU"), (2, "cuda:2", "device=cuda:2: torch finds 2 GPUs here")],
)
def test_a_gpu_that_torch_does_not_find_is_refused(
    n_gpus: int, device: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    with pytest.raises(ConfigError, match=says):
        check_device(device)


class TupleActions(gymnasium.Env[Any, Any]):
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(2)))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:  # noqa: ARG002
        return np.zeros(2, np.float32), {}


register("TupleActions-v0", TupleActions)


def test_the_card_has_returns_settings_versions_and_the_command(run: ModelDir) -> None:
    text = run.card.read_text()
    with np.load(run.evaluations) as evaluations:
        last = evaluations["results"][-1]
    assert "# TRPO on Pendulum-v1" in text
    assert f"| {last.mean():.1f} ± {last.std():.1f} |" in text
    assert "| gamma | `0.9` |" in text
    assert f"| torch | `{torch.__version__}` |" in text
    assert "![evaluation return over training steps](learning_curve.png)" in text
    assert "trpo-deploy train Pendulum-v1 --preset config.yaml" in text


def test_the_cards_command_reproduces_the_policy(run: ModelDir, tmp_path: Path) -> None:
    again = ModelDir(tmp_path / "again")
    train(load_config("Pendulum-v1", preset=str(run.config)), again)
    first, second = (read_policy_zip(each.policy_zip).build_policy() for each in (run, again))
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def test_a_wrapped_environment_is_evaluated_as_it_was_trained(tmp_path: Path) -> None:
    config = load_config(
        "Pendulum-v1",
        settings=[
            "frame_stack=2",
            "env_wrapper=[{gymnasium.wrappers.TimeLimit: {max_episode_steps: 10}}]",
            "n_steps=128",
        ],
        n_timesteps=256,
        eval_episodes=2,
    )
    train(config, ModelDir(tmp_path / "m"))
    folder = ModelDir(tmp_path / "m")
    export_policy(find_run(folder.root), folder.onnx, verify=False)
    played: list[tuple[Path, Literal["onnx", "torch"]]] = [
        (folder.root, "torch"),
        (folder.root, "onnx"),
        (folder.onnx, "onnx"),
    ]
    for model, backend in played:
        returns = evaluate(model, backend=backend, episodes=2).returns
        assert (returns > -170).all()  # ten steps with rewards above -16.3, not two hundred


def test_a_folder_that_is_not_empty_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelDirError, match="not empty"):
        train(load_config("CartPole-v1"), ModelDir(tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine"


class Counted(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A class of the user's, which counts its steps."""

    total: ClassVar[int] = 0

    def step(self, action: Any) -> Any:
        type(self).total += 1
        return super().step(action)


@pytest.mark.parametrize(
    ("env_id", "policy"),
    [("CartPole-v1", "MlpPolicy"), (f"{__name__}:SmallPictures-v0", "CnnPolicy")],
)
def test_both_backends_apply_a_wrapper_of_the_users(
    env_id: str, policy: str, tmp_path: Path
) -> None:
    folder = ModelDir(tmp_path / "m")
    own = f"env_wrapper={__name__}:Counted"
    config = load_config(
        env_id,
        settings=[f"policy={policy}", "n_steps=16", "n_envs=1", "batch_size=16", own],
        n_timesteps=16,
        eval_episodes=1,
    )
    train(config, folder)
    # As trpo-deploy train does: the image layout is that of the wrapped environment.
    reading = SourceOptions(allow_import=config.own_classes)
    export_policy(find_run(folder.root), folder.onnx, verify=False, reading=reading)
    for backend in ("onnx", "torch"):
        before = Counted.total
        evaluate(folder.root, backend=backend, episodes=2)
        assert Counted.total >= before + 2


@pytest.mark.parametrize(
    ("policy", "device", "taken"),
    [
        ("MlpPolicy", "auto", "cpu"),
        ("CnnPolicy", "auto", "auto"),
        ("MlpPolicy", "cuda", "cuda"),
    ],
)
def test_a_small_network_uses_the_cpu_unless_told_otherwise(
    policy: str, device: str, taken: str
) -> None:
    config = load_config("CartPole-v1", settings=[f"policy={policy}"], device=device)
    assert choose_device(config) == taken


class Patient(torch.optim.SGD):
    """A class of the user's."""


def test_a_policy_with_an_optimiser_of_the_users_is_exported(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "m")
    own = f"policy_kwargs={{optimizer_class: {__name__}:Patient}}"
    settings = ["n_steps=16", "n_envs=1", "batch_size=16", own]
    config = load_config("CartPole-v1", settings=settings, n_timesteps=16, eval_episodes=1)
    train(config, folder)
    reading = SourceOptions(allow_import=config.own_classes)
    export_policy(find_run(folder.root), folder.onnx, verify=False, reading=reading)
    assert folder.onnx.is_file()


class Parked(RandomEnv):
    """Raises when it is reset."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))

    def reset(self, **_: Any) -> Any:
        raise RuntimeError("no road")


register("Parked-v0", Parked)


def test_a_model_is_not_replaced_if_the_environment_does_not_start(
    run: ModelDir, tmp_path: Path
) -> None:
    folder = ModelDir(tmp_path / "m")
    shutil.copytree(run.root, folder.root)
    before = folder.policy_zip.read_bytes()
    with pytest.raises(EnvError, match=r"at step 0: reset\(\) raised RuntimeError: no road"):
        train(load_config(f"{__name__}:Parked-v0"), folder, force=True)
    assert folder.policy_zip.read_bytes() == before


def test_both_backends_play_images_identically(tmp_path: Path) -> None:
    """The zip has channels first, the environment last; both backends take the environment's."""
    folder = ModelDir(tmp_path / "m")
    config = load_config(
        "tests.train.run.test_trainer:SmallPictures-v0",
        settings=["policy=CnnPolicy", "n_steps=16", "batch_size=16"],
        n_timesteps=16,
        eval_episodes=1,
    )
    train(config, folder)
    export_policy(find_run(folder.root), folder.onnx, verify=False)
    played = [
        evaluate(folder.root, backend=backend, episodes=2).returns for backend in ("onnx", "torch")
    ]
    np.testing.assert_array_equal(played[0], played[1])


class Pictures(gymnasium.Env[Any, Any]):
    """Short episodes of random images; the reward is the action."""

    observation_space = spaces.Box(0, 255, (40, 36, 3), np.uint8)
    action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:  # noqa: ARG002
        super().reset(seed=seed)
        self.steps = 0
        return self._picture(), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        return self._picture(), float(action), self.steps == 5, False, {}

    def _picture(self) -> Any:
        return self.np_random.integers(0, 256, (40, 36, 3), np.uint8)


register("SmallPictures-v0", Pictures)
_OWN_EXTRACTOR = (
    "policy_kwargs={features_extractor_class: stable_baselines3.common.torch_layers.NatureCNN}"
)


@pytest.mark.parametrize(
    ("env_id", "setting", "says"),
    [
        ("tests.train.run.test_trainer:SmallPictures-v0", "seed=1", "--set policy=CnnPolicy"),
        ("tests.train.run.test_trainer:SmallPictures-v0", "policy=CnnPolicy", None),
        ("tests.train.run.test_trainer:SmallPictures-v0", _OWN_EXTRACTOR, None),
        ("CartPole-v1", "seed=1", None),
    ],
)
def test_a_note_says_that_a_policy_flattens_images(
    env_id: str, setting: str, says: str | None, tmp_path: Path
) -> None:
    notes: list[str] = []
    settings = [setting, "n_envs=1", "n_steps=16", "batch_size=16"]
    config = load_config(env_id, settings=settings, n_timesteps=16, eval_episodes=1)
    train(config, ModelDir(tmp_path / "m"), reports=Reports(note=notes.append))
    assert len(notes) == (says is not None)
    assert says is None or says in notes[0]


def test_a_run_continues_without_tensorboard_when_its_disk_is_full(tmp_path: Path) -> None:
    usage, calls = shutil.disk_usage, itertools.count()

    def filling(path: Path) -> Any:
        return usage(path)._replace(free=1000 if next(calls) else 1 << 30)

    notes: list[str] = []
    folder, config = ModelDir(tmp_path / "m"), load_config("CartPole-v1", n_timesteps=4096)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", filling)
        result = train(
            config, folder, tensorboard=tmp_path / "tb", reports=Reports(note=notes.append)
        )
    assert result.timesteps == 4096
    assert folder.policy_zip.is_file()
    (note,) = notes
    assert "tb: No space left on device; training continues without it" in note


class Stuck(RandomEnv):
    """Raises when it is closed."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))

    def close(self) -> None:
        raise RuntimeError("the arm is stuck")


def test_an_environment_that_fails_to_close_costs_nothing(tmp_path: Path) -> None:
    register("Stuck-v0", Stuck)
    settings = ["n_steps=64", "batch_size=64"]
    config = load_config("Stuck-v0", settings=settings, n_timesteps=64, eval_episodes=2)
    assert train(config, ModelDir(tmp_path / "m")).timesteps == 64
    assert len(evaluate(tmp_path / "m", backend="torch", episodes=2).returns) == 2
