"""``trpo-deploy train``: settings, resuming, Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trpo_deploy.export
from tests.command import COMMAND, reset_sigint, run_cli, run_process
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import read_yaml

SHORT = ("-n", 1024, "--set", "n_steps=128", "--set", "batch_size=64", "--no-export")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ModelDir:
    """A run with a seed, a setting and TensorBoard's files."""
    root = tmp_path_factory.mktemp("run")
    tensorboard = ("--tensorboard", root / "tb", "--eval-episodes", 2)
    run = run_cli(
        *("train", "CartPole-v1", "-o", root / "m", *SHORT, "--seed", 4, *tensorboard),
    )
    assert run.code == 0, run.error
    assert run.error == ""
    assert "evaluation at     1,024 steps: return" in run.output
    return ModelDir(root / "m")


def test_tensorboard_gets_the_log(folder: ModelDir) -> None:
    from tensorboard.backend.event_processing import (  # type: ignore[import-untyped]
        event_accumulator,
    )

    events = event_accumulator.EventAccumulator(str(folder.root.parent / "tb")).Reload()
    steps = [event.step for event in events.Scalars("train/kl_divergence_loss")]
    assert steps == [512, 768, 1024, 1024]
    assert "eval/mean_reward" in events.Tags()["scalars"]


def test_resume_takes_the_settings_from_the_run(folder: ModelDir, tmp_path: Path) -> None:
    copied = ModelDir(tmp_path / "m")
    shutil.copytree(folder.root, copied.root)
    resume = ("train", "CartPole-v1", "-o", copied.root, "--resume", "--no-export")
    run = run_cli(*resume, "-n", 1536)
    assert run.code == 0, run.error
    assert "trained 1,536 steps" in run.output
    config = read_yaml(copied.config)
    assert (config["seed"], config["n_timesteps"]) == (4, 1536)
    assert config["hyperparameters"]["n_steps"] == 128
    run_cli(*resume, "--set", "gamma=0.5").assert_one_clear_line("gamma=0.99, not 0.5", "-o")
    # A default that the run was not told is the same as one that it was.
    assert run_cli(*resume, "--set", "cg_max_steps=15").code == 0
    run_cli(*resume, "--set", "cg_max_steps=9").assert_one_clear_line("cg_max_steps=15, not 9")
    other = run_cli("train", "Acrobot-v1", "-o", copied.root, "--resume")
    other.assert_one_clear_line("run on CartPole-v1, not on Acrobot-v1")
    run_cli(*resume, "-n", 1000).assert_one_clear_line("has made 1536 of 1536 steps")
    assert run_cli(*resume, "--force").code == 2
    again = run_cli(*resume[:-2])
    again.assert_one_clear_line("it holds an earlier run; resume it with --resume", "--force", "-o")


def test_the_preset_is_said_and_recorded(folder: ModelDir, tmp_path: Path) -> None:
    assert read_yaml(folder.config)["preset"] == "CartPole-v1"
    assert "| preset | `CartPole-v1` |" in folder.card.read_text()
    train = ("train", "-o", tmp_path / "m", *SHORT, "--eval-episodes", 1)
    lines = {
        ("CartPole-v1",): "the preset CartPole-v1",
        ("CartPole-v1", "--preset", folder.config): "the preset CartPole-v1",
        ("CartPole-v1", "--preset", "Acrobot-v1"): "the preset Acrobot-v1",
        ("CartPole-v0",): "no preset for CartPole-v0, so the defaults of sb3_contrib.TRPO; "
        "CartPole-v1 has one: --preset CartPole-v1",
    }
    for arguments, origin in lines.items():
        run = run_cli(*train, "--force", *arguments)
        assert run.code == 0, run.error
        assert run.output.splitlines()[0] == f"settings: {origin}"


@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "no text"])
def test_resume_finds_the_settings_in_the_checkpoint(
    damage: str, folder: ModelDir, tmp_path: Path
) -> None:
    shutil.copytree(folder.root, tmp_path / "m")
    damaged = ModelDir(tmp_path / "m")
    before = damaged.config.read_bytes()
    if damage == "gone":
        damaged.config.unlink()
    else:
        kept = {"cut": before[: len(before) // 2], "empty": b"", "no text": b"\xff\xfe\x00"}
        damaged.config.write_bytes(kept[damage])
    run = run_cli("train", "CartPole-v1", "-o", damaged.root, "--resume", "--no-export")
    assert run.code == 0, run.error
    assert damaged.config.read_bytes() == before


def test_resume_ignores_a_damaged_log(folder: ModelDir) -> None:
    text = folder.progress.read_text()
    folder.progress.write_text("a,b\n1,2,3,4\n")
    run = run_cli("train", "CartPole-v1", "-o", folder.root, "--resume", "--no-export")
    folder.progress.write_text(text)
    assert run.code == 0, run.error


OWN = """
import time

import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
from stable_baselines3.common.torch_layers import FlattenExtractor

gymnasium.register("Cart-v0", entry_point=CartPoleEnv, max_episode_steps=50)

class Extractor(FlattenExtractor):
    pass

class Slow(CartPoleEnv):
    def reset(self, **kwargs):
        print("reset", flush=True)
        time.sleep(60)

gymnasium.register("Slow-v0", entry_point=Slow)
"""


def test_classes_of_the_working_folder_are_trained_and_exported(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    entry_point = Path(sys.executable).with_name("trpo-deploy")
    extractor = "policy_kwargs={features_extractor_class: own.Extractor}"
    arguments = ("train", "own:Cart-v0", *SHORT[:-1], "--set", extractor, "--eval-episodes", "2")
    run = run_process(*arguments, command=(entry_point,), cwd=tmp_path)
    assert run.code == 0, run.error
    assert "certificate: the same policy" in run.output
    model = ("evaluate", "runs/own_Cart-v0", "--backend", "torch", "--episodes", 1)
    run_cli(*model, cwd=tmp_path).assert_one_clear_line("--allow-import module:Class")
    played = run_cli(*model, "--allow-import", "own:Extractor", cwd=tmp_path)
    assert played.code == 0, played.error
    again = run_cli("train", "own:Cart-v0", "--resume", "--no-export", cwd=tmp_path)
    assert again.code == 0, again.error
    assert "trpo-deploy export runs/own_Cart-v0 --allow-import own:Extractor" in again.output


def test_a_truncated_mini_batch_is_one_warning(tmp_path: Path) -> None:
    run = run_cli(
        *("train", "CartPole-v1", "-o", tmp_path / "m", "-n", 256, "--no-export"),
        *("--set", "n_steps=128", "--set", "batch_size=100", "--eval-episodes", 1),
    )
    assert run.code == 0
    lines = run.error.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: ")
    assert "mini-batch of size 56" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--set", "n_step=5"), "did you mean 'n_steps'"),
        (("--preset", "Pendulum-v1"), "continuous actions"),
        (("--env-arg", "wheels=4"), "wheels"),
    ],
)
def test_a_mistake_is_one_line_and_no_folder(
    arguments: tuple[object, ...], says: str, tmp_path: Path
) -> None:
    run = run_cli("train", "CartPole-v1", "-o", tmp_path / "m", *arguments, cwd=tmp_path)
    run.assert_one_clear_line(says)
    assert not list(tmp_path.iterdir())


def test_without_envpool_the_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "envpool.py").write_text("raise ImportError('no wheel for this machine')")
    # A process: this one may have imported the real package.
    run = run_process("train", "CartPole-v1", "-o", "m", "--vec-env", "envpool", cwd=tmp_path)
    run.assert_one_clear_line("no wheel for this machine", 'pip install "trpo-deploy[envpool]"')
    assert not (tmp_path / "m").exists()


def test_a_folder_may_have_any_name_and_a_terminal_any_encoding(tmp_path: Path) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    settings = ("--set", "n_steps=16", "--set", "batch_size=16", "--eval-episodes", 1)
    steps = ("-n", 16, "--n-envs", 1, "--tensorboard", "run[/b]/:smile:")
    arguments = ("train", "CartPole-v1", "-o", "run[/b]", *settings, *steps)
    run = run_process(*arguments, cwd=tmp_path, env=ascii_only)
    assert run.code == 0, run.error
    assert run.output.endswith(" serve 'run[/b]'\n")  # as a shell takes it
    assert list((tmp_path / "run[/b]" / ":smile:").iterdir())


@pytest.mark.parametrize(
    ("vec_env", "sent"),
    [("sync", signal.SIGINT), ("subproc", signal.SIGINT), ("sync", signal.SIGTERM)],
)
def test_ctrl_c_leaves_a_run_that_resumes(
    vec_env: str, sent: signal.Signals, tmp_path: Path
) -> None:
    folder = ModelDir(tmp_path / "m")
    train = ("train", "CartPole-v1", "-o", str(folder.root), "--vec-env", vec_env)
    process = subprocess.Popen(
        [*COMMAND, *train, "--set", "n_steps=256"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=reset_sigint,
    )
    deadline = time.monotonic() + 120
    while not folder.progress.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, sent)  # as a terminal sends it, to the workers as well
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    command = f"{sys.executable} -m trpo_deploy"  # as it was started
    assert f"resume with: {command} train CartPole-v1 -o {folder.root} --resume" in output
    assert folder.policy_zip.is_file()
    assert not list(folder.root.rglob("*.tmp"))
    run = run_cli("train", "CartPole-v1", "-o", folder.root, "--resume", "-n", 1024, "--no-export")
    assert run.code == 0, run.error


def test_ctrl_c_before_the_first_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    process = subprocess.Popen(
        [*COMMAND, "train", "own:Slow-v0", "-o", "m"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=reset_sigint,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reset\n"
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert output == (
        "stopped before the first checkpoint, nothing was saved; run the same command again\n"
    )
    assert error == ""
    assert not (tmp_path / "m").exists()


def test_ctrl_c_in_the_export_names_the_export_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trpo_deploy.export, "export_policy", stopped)
    folder = tmp_path / "a run"
    arguments = ["train", "CartPole-v1", "-o", folder, *SHORT[:-1], "--eval-episodes", 1]
    run = run_cli(*arguments, "--no-progress")
    assert run.code == 130, run.error
    assert f"the policy is trained, export it with: trpo-deploy export '{folder}'" in run.output
    assert ModelDir(folder).policy_zip.is_file()
    assert not ModelDir(folder).onnx.exists()


def test_a_stale_export_is_not_evaluated_as_the_new_policy(tmp_path: Path) -> None:
    train = ("train", "CartPole-v1", "-o", tmp_path / "m", "--no-progress", "--eval-episodes", 1)
    assert run_cli(*train, *SHORT[:-1]).code == 0
    assert run_cli("evaluate", tmp_path / "m", "--episodes", 1).code == 0
    resumed = run_cli(*train, "--resume", "-n", 1536, "--no-export")
    assert "policy.onnx is still the previous policy" in resumed.output
    stale = run_cli("evaluate", tmp_path / "m", "--episodes", 1)
    stale.assert_one_clear_line("not exported from the policy.zip next to it", "--backend torch")
    assert "policy.zip: has changed since" in run_cli("inspect", tmp_path / "m").output
    assert run_cli("export", tmp_path / "m").code == 0
    assert run_cli("evaluate", tmp_path / "m", "--episodes", 1).code == 0
