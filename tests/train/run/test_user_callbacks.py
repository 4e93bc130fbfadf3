"""``--callback`` and ``--logger``: the user's classes take part in a run, and cannot spoil it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from tests.command import run_cli
from tests.train.checkpoint.runs import assert_same_run, short_config, train_interrupted
from tests.train.environments import RandomEnv
from tests.train.registration import register
from trpo_deploy.errors import ConfigError, TrainingError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.train import Reports, TrainConfig, load_config, train

pytestmark = pytest.mark.usefixtures("undrawn_curves")

HERE = __name__
STOP = "stable_baselines3.common.callbacks:StopTrainingOnMaxEpisodes"


def config_with(env_id: str = "CartPole-v1", steps: int = 1024, **flags: Any) -> TrainConfig:
    return short_config(env_id, steps=steps, **flags)


def test_a_callback_may_stop_the_run_and_the_folder_is_that_of_its_last_checkpoint(
    tmp_path: Path,
) -> None:
    folder = ModelDir(tmp_path / "m")
    config = config_with(callback={STOP: {"max_episodes": 10}}, steps=4096)
    result = train(config, folder)
    assert 256 <= result.timesteps < 4096
    assert result.timesteps % 256 == 0  # the start of a rollout
    assert not result.stopped_early
    assert result.last.timesteps == result.timesteps
    assert read_policy_zip(folder.policy_zip).num_timesteps == result.timesteps
    notes: list[str] = []
    again = train(config, folder, resume=True, reports=Reports(note=notes.append))
    assert again.timesteps > result.timesteps
    assert notes == [
        "the callbacks start new: what they keep in attributes is not in the checkpoint"
    ]


class Level(RandomEnv):
    """Its reward has an offset that a curriculum raises."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))
        self.level = 0

    def set_level(self, level: int) -> None:
        self.level = level

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, *ends = super().step(action)
        return observation, reward + self.level, *ends


class Curriculum(BaseCallback):
    """Raises the level of the environments with the steps made."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def _on_rollout_start(self) -> None:
        self.training_env.env_method("set_level", self.num_timesteps // self.steps)

    def _on_step(self) -> bool:
        return True


def test_a_curriculum_reaches_the_environments_and_resumes_exactly(tmp_path: Path) -> None:
    register("Level-v0", Level)
    plain, whole, parts = (ModelDir(tmp_path / name) for name in ("plain", "whole", "parts"))
    config = config_with("Level-v0", callback=[f"{HERE}.Curriculum"], steps=1024)
    with pytest.raises(ConfigError, match="missing 1 required positional argument: 'steps'"):
        train(config, whole)
    assert not whole.root.exists()
    config = config_with("Level-v0", callback={f"{HERE}.Curriculum": {"steps": 256}}, steps=1024)
    assert read_yaml(_trained(config, whole).config)["callback"] == config.callback
    train_interrupted(config, parts, update=3)
    train(config, parts, resume=True)
    assert_same_run(whole, parts)
    _trained(config_with("Level-v0", steps=1024), plain)
    raised = [last_return(each) for each in (plain, whole)]
    assert raised[1] > raised[0] + 5  # episodes of about twelve steps, at level 1 and above


def _trained(config: TrainConfig, folder: ModelDir) -> ModelDir:
    return train(config, folder).folder


def last_return(folder: ModelDir) -> float:
    return float(rows_of(folder)[-1]["rollout/ep_rew_mean"])


def rows_of(folder: ModelDir) -> list[dict[str, str]]:
    with folder.progress.open(newline="") as file:
        return list(csv.DictReader(file))


class Failing(BaseCallback):
    """Fails at a step, in one of its methods."""

    def __init__(self, method: str, at: int = 300) -> None:
        super().__init__()
        self.at = at
        setattr(self, method, self.fail)

    def fail(self) -> bool:
        if self.num_timesteps >= self.at:
            raise ZeroDivisionError("not\nthis way")
        return True

    def _on_step(self) -> bool:
        return True


@pytest.mark.parametrize("method", ["_on_step", "_on_rollout_start", "_on_rollout_end"])
def test_a_failing_callback_is_one_line_and_the_run_resumes(method: str, tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "m")
    config = config_with(callback={f"{HERE}:Failing": {"method": method}}, steps=768)
    with pytest.raises(TrainingError) as failed:
        train(config, folder)
    message = str(failed.value)
    assert f"callback {HERE}:Failing failed after " in message
    assert "ZeroDivisionError: not this way (test_user_callbacks.py, line " in message
    assert message.endswith("resume the run with --resume")
    with pytest.raises(ConfigError, match="the run to resume has callback="):
        train(config_with(steps=768), folder, resume=True)
    with pytest.MonkeyPatch.context() as corrected:
        corrected.setattr(Failing, "fail", lambda _: True)
        train(config, folder, resume=True)
    whole = _trained(config_with(steps=768), ModelDir(tmp_path / "whole"))
    assert_same_run(whole, folder)


class Rows(KVWriter):
    """Keeps what it gets; fails if told to."""

    written: list[tuple[int, dict[str, Any]]]
    made: list[Rows] = []  # noqa: RUF012 - what the test reads

    def __init__(self, fail: bool = False) -> None:
        self.written, self.closed, self.fail = [], False, fail
        self.made.append(self)

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],  # noqa: ARG002 - the signature of SB3
        step: int = 0,
    ) -> None:
        self.written.append((step, dict(key_values)))
        if self.fail:
            raise ConnectionError("no network")

    def close(self) -> None:
        self.closed = True


def test_a_logger_gets_the_rows_of_the_log_and_is_closed(tmp_path: Path) -> None:
    Rows.made.clear()
    notes: list[str] = []
    config = config_with(logger=[f"{HERE}:Rows", {f"{HERE}:Rows": {"fail": True}}])
    folder = train(config, ModelDir(tmp_path / "m"), reports=Reports(note=notes.append)).folder
    good, failing = Rows.made
    rows = rows_of(folder)
    assert [step for step, _ in good.written] == [int(row["time/total_timesteps"]) for row in rows]
    for name in ("train/kl_divergence_loss", "rollout/ep_rew_mean", "eval/mean_reward"):
        assert f"{good.written[-1][1][name]:.6g}" == f"{float(rows[-1][name]):.6g}"
    assert good.closed
    (note,) = notes
    assert f"logger {HERE}:Rows failed: ConnectionError: no network (" in note
    assert note.endswith("training continues without it")
    assert len(failing.written) == 1


def test_a_run_that_cannot_start_closes_its_loggers(tmp_path: Path) -> None:
    Rows.made.clear()
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(Exception, match=r"note\.txt|not empty"):
        train(config_with(logger=f"{HERE}:Rows"), ModelDir(tmp_path))
    assert [each.closed for each in Rows.made] == [True]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("callback=3", "callback=3: expected module:Class"),
        ("callback=json:JSONDecoder", "expected a stable_baselines3 BaseCallback"),
        ("logger=json:JSONDecoder", "expected a stable_baselines3 KVWriter"),
        ("logger={nowhere:Log: {}}", "cannot be imported"),
        (f"logger={{{HERE}:Rows: {{speed: 1}}}}", "unexpected keyword argument 'speed'"),
    ],
)
def test_a_class_that_does_not_fit_is_one_line_and_the_earlier_run_stays(
    setting: str, words: str, tmp_path: Path
) -> None:
    folder = ModelDir(tmp_path / "m")
    folder.root.mkdir()
    folder.config.write_text("env_id: CartPole-v1\n")
    with pytest.raises(ConfigError) as refused:
        train(load_config("CartPole-v1", settings=[setting]), folder, force=True)
    assert words in str(refused.value)
    assert folder.config.is_file()


def test_classes_of_the_working_folder_and_their_arguments_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_listeners.py").write_text(
        "from stable_baselines3.common.callbacks import BaseCallback\n"
        "class Stop(BaseCallback):\n"
        "    def __init__(self, steps=10**9):\n"
        "        super().__init__()\n"
        "        self.steps = steps\n"
        "    def _on_step(self):\n"
        "        return self.num_timesteps < self.steps\n"
    )
    short = ("--set", "n_steps=128", "--eval-episodes", 1, "--no-export")
    run = run_cli(
        *("train", "CartPole-v1", "-n", 512, *short, "--callback", "own_listeners:Stop"),
        *("--callback", "own_listeners:Stop: {steps: 300}"),
        *("--logger", "stable_baselines3.common.logger:JSONOutputFormat: {filename: log.json}"),
    )
    assert run.code == 0, run.error
    assert "trained 256 steps" in run.output
    assert "(stopped by a callback)" in run.output
    lines = (tmp_path / "log.json").read_text().splitlines()
    assert len(lines) == len(rows_of(ModelDir(tmp_path / "runs" / "CartPole-v1")))
    assert np.isfinite(last_return(ModelDir(tmp_path / "runs" / "CartPole-v1")))
