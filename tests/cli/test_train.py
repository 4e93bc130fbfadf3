"""``trpo-deploy train`` and ``evaluate`` as a user types them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import trpo_deploy.export
from tests.command import hear_ctrl_c, run_cli
from trpo_deploy.cli.app import _interrupts_held, app
from trpo_deploy.cli.progress_display import TrainingDisplay, log_table
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.train import load_config

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
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.root.parent / "tb")).Reload()
    steps = [event.step for event in events.Scalars("train/kl_divergence_loss")]
    assert steps == [512, 768, 1024, 1024]
    assert "eval/mean_reward" in events.Tags()["scalars"]


def test_resume_needs_none_of_the_settings_again(folder: ModelDir) -> None:
    resume = ("train", "CartPole-v1", "-o", folder.root, "--resume", "--no-export")
    run = run_cli(*resume, "-n", 1536)
    assert run.code == 0, run.error
    assert "trained 1,536 steps" in run.output
    config = read_yaml(folder.config)
    assert (config["seed"], config["n_timesteps"]) == (4, 1536)
    assert config["hyperparameters"]["n_steps"] == 128
    run_cli(*resume, "--set", "gamma=0.5").assert_one_clear_line("gamma=0.99, not 0.5", "-o")
    # A default that the run was not told is the same as one that it was.
    assert run_cli(*resume, "--set", "cg_max_steps=15").code == 0
    run_cli(*resume, "--set", "cg_max_steps=9").assert_one_clear_line("cg_max_steps=15, not 9")
    other = run_cli("train", "Acrobot-v1", "-o", folder.root, "--resume")
    other.assert_one_clear_line("run on CartPole-v1, not on Acrobot-v1")
    run_cli(*resume, "-n", 1000).assert_one_clear_line("has made 1536 of 1536 steps")
    assert run_cli(*resume, "--force").code == 2
    run_cli(*resume[:-2]).assert_one_clear_line("is not empty; resume with --resume")


@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "no text"])
def test_resume_finds_the_settings_in_the_checkpoint(damage: str, tmp_path: Path) -> None:
    train = ("train", "CartPole-v1", "-o", tmp_path / "m", "--no-progress")
    assert run_cli(*train, *SHORT, "--seed", 4, "--eval-episodes", 1).code == 0
    folder = ModelDir(tmp_path / "m")
    before = folder.config.read_bytes()
    if damage == "gone":
        folder.config.unlink()
    else:
        kept = {"cut": before[: len(before) // 2], "empty": b"", "no text": b"\xff\xfe\x00"}
        folder.config.write_bytes(kept[damage])
    run = run_cli(*train, "--resume", "--no-export")
    assert run.code == 0, run.error
    assert folder.config.read_bytes() == before


def test_a_log_with_more_fields_than_columns_is_gone_on_with(folder: ModelDir) -> None:
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


def test_what_lies_in_the_working_folder_is_trained_and_exported(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    command = Path(sys.executable).with_name("trpo-deploy")
    extractor = "policy_kwargs={features_extractor_class: own.Extractor}"
    arguments = ("train", "own:Cart-v0", *SHORT[:-1], "--set", extractor, "--eval-episodes", "2")
    run = subprocess.run(
        [str(each) for each in (command, *arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "certificate: the same policy" in run.stdout
    model = ("evaluate", "models/own_Cart-v0", "--backend", "torch", "--episodes", 1)
    run_cli(*model, cwd=tmp_path).assert_one_clear_line("--allow-import module:Class")
    played = run_cli(*model, "--allow-import", "own:Extractor", cwd=tmp_path)
    assert played.code == 0, played.error
    again = run_cli("train", "own:Cart-v0", "--resume", "--no-export", cwd=tmp_path)
    assert again.code == 0, again.error
    assert "trpo-deploy export models/own_Cart-v0 --allow-import own:Extractor" in again.output


def test_a_batch_that_is_cut_short_is_one_warning(tmp_path: Path) -> None:
    run = run_cli(
        *("train", "CartPole-v1", "-o", tmp_path / "m", "-n", 256, "--no-export"),
        *("--set", "n_steps=128", "--set", "batch_size=100", "--eval-episodes", 1),
    )
    assert run.code == 0
    lines = run.error.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: ")
    assert "mini-batch of 56" in lines[0]


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
    run = run_cli("train", "CartPole-v1", "-o", "m", "--vec-env", "envpool", cwd=tmp_path)
    run.assert_one_clear_line("no wheel for this machine", 'pip install "trpo-deploy[envpool]"')
    assert not (tmp_path / "m").exists()


def test_evaluate_makes_a_film(folder: ModelDir, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    film = tmp_path / "film.mp4"
    arguments = ("evaluate", folder.root, "--backend", "torch", "--episodes", 1)
    run = run_cli(*arguments, "--video", film)
    assert run.code == 0, run.error
    assert film.read_bytes()[4:8] == b"ftyp"


def test_any_name_of_a_folder_and_a_terminal_of_ascii(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    settings = ("--set", "n_steps=16", "--set", "batch_size=16", "--eval-episodes", 1)
    steps = ("-n", 16, "--n-envs", 1, "--tensorboard", "run[/b]/:smile:")
    run = run_cli("train", "CartPole-v1", "-o", "run[/b]", *settings, *steps, cwd=tmp_path)
    assert run.code == 0, run.error
    assert "next: trpo-deploy serve 'run[/b]'" in run.output  # as a shell takes it
    assert list((tmp_path / "run[/b]" / ":smile:").iterdir())


@pytest.mark.parametrize(
    ("vec_env", "sent"),
    [("sync", signal.SIGINT), ("subproc", signal.SIGINT), ("sync", signal.SIGTERM)],
)
def test_ctrl_c_leaves_what_goes_on(vec_env: str, sent: signal.Signals, tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "m")
    command = ["-m", "trpo_deploy", "train", "CartPole-v1", "-o", str(folder.root)]
    process = subprocess.Popen(
        [sys.executable, *command, "--vec-env", vec_env, "--set", "n_steps=256"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=hear_ctrl_c,
    )
    deadline = time.monotonic() + 120
    while not folder.progress.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, sent)  # as a terminal sends it, to the workers as well
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert f"go on with: trpo-deploy train CartPole-v1 -o {folder.root} --resume" in output
    assert folder.policy_zip.is_file()
    assert not list(folder.root.rglob("*.tmp"))
    run = run_cli("train", "CartPole-v1", "-o", folder.root, "--resume", "-n", 1024, "--no-export")
    assert run.code == 0, run.error


def test_ctrl_c_before_anything_was_learned_says_so(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    process = subprocess.Popen(
        [sys.executable, "-m", "trpo_deploy", "train", "own:Slow-v0", "-o", "m"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=hear_ctrl_c,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reset\n"
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert output == "stopped before anything was learned; start anew with the same command\n"
    assert error == ""
    assert not (tmp_path / "m").exists()


def test_ctrl_c_in_the_export_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trpo_deploy.export, "export_policy", stopped)
    folder = tmp_path / "a run"
    arguments = ["train", "CartPole-v1", "-o", folder, *SHORT[:-1], "--eval-episodes", 1]
    result = CliRunner().invoke(app, [*map(str, arguments), "--no-progress"])
    assert result.exit_code == 130, result.output
    assert f"the policy is trained, export it with: trpo-deploy export '{folder}'" in result.output
    assert ModelDir(folder).policy_zip.is_file()
    assert not ModelDir(folder).onnx.exists()


def test_ctrl_c_waits_for_the_end_of_an_import() -> None:
    before, imported = signal.getsignal(signal.SIGINT), []

    def interrupted() -> None:
        with _interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            imported.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert imported
    assert signal.getsignal(signal.SIGINT) is before


def test_the_terminal_shows_the_log_the_speed_and_the_return() -> None:
    console = Console(force_terminal=True, width=120, record=True, highlight=False)
    config = load_config("CartPole-v1", n_timesteps=1000)
    with TrainingDisplay(console, config, live=True) as display:
        for timesteps in (200, 400, 600):
            time.sleep(0.01)
            display.reports.progress(timesteps, 33.25)
        display.reports.log({"train/value_loss": 1.25, "time/fps": 512, "train/refusal": "[x]"})
        console.print(display._picture())
    shown = console.export_text()
    for text in ("600/1000", "steps/s", "return 33.2", "value_loss 1.25", "refusal [x]", "time"):
        assert text in shown, text


def test_a_log_without_values_is_an_empty_table() -> None:
    assert log_table({}).row_count == 0


def test_an_export_of_an_earlier_policy_is_not_taken_for_this_one(tmp_path: Path) -> None:
    train = ("train", "CartPole-v1", "-o", tmp_path / "m", "--no-progress", "--eval-episodes", 1)
    assert run_cli(*train, *SHORT[:-1]).code == 0
    assert run_cli("evaluate", tmp_path / "m", "--episodes", 1).code == 0
    resumed = run_cli(*train, "--resume", "-n", 1536, "--no-export")
    assert "policy.onnx is still of the policy before" in resumed.output.replace("\n", " ")
    stale = run_cli("evaluate", tmp_path / "m", "--episodes", 1)
    stale.assert_one_clear_line("not exported from the policy.zip next to it", "--backend torch")
    assert "policy.zip: has changed since" in run_cli("inspect", tmp_path / "m").output
    assert run_cli("export", tmp_path / "m").code == 0
    assert run_cli("evaluate", tmp_path / "m", "--episodes", 1).code == 0
