"""A study belongs to one task and search space; its storage is checked before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.command import run_cli
from trpo_deploy.errors import ConfigError, TrainingError
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.train.config.load import load_config
from trpo_deploy.train.run.benchmark.variants import Variant
from trpo_deploy.train.run.tuning.preset import write_preset
from trpo_deploy.train.run.tuning.space import read_space
from trpo_deploy.train.run.tuning.storage import storage_errors
from trpo_deploy.train.run.tuning.study import StudyFolder, Task

TASK = Task("CartPole-v1", 1000, Variant(), 2)


def open_study(root: Path, storage: str | None = None, task: Task = TASK) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return StudyFolder(root, storage).open(task, read_space(None, task.config))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"env_id": "Pendulum-v1"}, "it has env_id='CartPole-v1', this command has 'Pendulum-v1'"),
        ({"timesteps": 2000}, "it has n_timesteps=1000, this command has 2000"),
        ({"n_seeds": 3}, "it has 2 seeds for each trial, this command has 3"),
        ({"base": Variant(settings=("gamma=0.9",))}, "it has gamma=0.99, this command has 0.9"),
    ],
)
def test_a_study_of_another_task_is_refused(
    other: dict[str, Any], says: str, tmp_path: Path
) -> None:
    study = open_study(tmp_path / "study")
    assert open_study(tmp_path / "study").study_name == study.study_name
    with pytest.raises(ConfigError, match=f"is another one: {says}; .* another folder with -o"):
        open_study(tmp_path / "study", task=replace(TASK, **other))


def test_a_study_of_another_space_is_refused(tmp_path: Path) -> None:
    open_study(tmp_path / "study")
    file = tmp_path / "space.yml"
    file.write_text(to_yaml({"gamma": [0.9, 0.99]}))
    with pytest.raises(ConfigError, match=r"its search space has n_steps: .*, that of "):
        StudyFolder(tmp_path / "study", None).open(TASK, read_space(file, TASK.config))


def test_the_device_and_the_number_of_trials_may_differ(tmp_path: Path) -> None:
    open_study(tmp_path / "study")
    open_study(tmp_path / "study", task=replace(TASK, base=Variant(settings=("device=cpu",))))


def foreign(folder: Path) -> str:
    (folder / "notes.txt").write_text("a line without its end")
    return "notes.txt"


def cut(folder: Path) -> str:
    study = open_study(folder / "other", str(folder / "j.log"))
    study.ask()
    journal = folder / "j.log"
    first, rest = journal.read_bytes().split(b"\n", 1)
    journal.write_bytes(first[:-20] + b"\n" + rest)
    return "j.log"


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        (lambda _: "sqlite:///no/folder/study.db", "cannot open the storage sqlite:///no/folder"),
        (lambda _: "no/folder/journal.log", "cannot open the journal no/folder/journal.log"),
        (lambda _: "sqlite://", "a database in memory is lost"),
        (lambda _: "redis://localhost", "Redis is not supported; give the path of a journal"),
        (lambda _: "nothing://localhost", "cannot open the storage nothing://localhost: Can't"),
        (
            lambda _: "postgresql://me:secret@here:port/db",
            "cannot open the storage postgresql://...: ",
        ),
        (
            lambda _: "oracle://me:secret@here/db",
            r"oracle://me:\*\*\*@here/db: No module .*; install the database's driver, .* oracledb",
        ),
        (foreign, "notes.txt is not a journal of Optuna"),
        (cut, r"j.log is not a journal of Optuna, or is damaged"),
    ],
)
def test_a_storage_out_of_reach_is_one_clear_line(
    storage: Callable[[Path], str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = storage(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=says) as caught:
        open_study(tmp_path / "study", name)
    assert "secret" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("storage", ["sqlite:///study.db", "other.log", None])
def test_a_study_needs_its_own_storage(
    storage: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = open_study(tmp_path / "study", storage)
    trial = study.ask()
    assert len(open_study(tmp_path / "study", storage).trials) == trial.number + 1
    for wrong in {"sqlite:///wrong.db", "wrong.log", None} - {storage}:
        with pytest.raises(ConfigError, match="give the --storage that the study was started with"):
            open_study(tmp_path / "study", wrong)
    assert not list(tmp_path.glob("wrong*"))
    open_study(tmp_path / "another", "sqlite:///several.db")
    with pytest.raises(ConfigError, match="does not have the study CartPole-v1-"):
        open_study(tmp_path / "study", "sqlite:///several.db")


def test_the_end_of_a_killed_write_is_removed(tmp_path: Path) -> None:
    """What comes after it would make it a damaged line in the middle of the journal."""
    study = open_study(tmp_path)
    study.ask()
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    for half in (b"{", b'{"op_code":4,"worker_id":"', whole.splitlines()[-1]):
        journal.write_bytes(whole + half)
        open_study(tmp_path)
        assert journal.read_bytes() == whole
    open_study(tmp_path).ask()
    assert len(open_study(tmp_path).trials) == 2


def test_a_failing_storage_is_one_clear_line(tmp_path: Path) -> None:
    study = open_study(tmp_path / "study", f"sqlite:///{tmp_path / 'study.db'}")
    (tmp_path / "study.db").write_bytes(b"damaged")
    with (
        pytest.raises(TrainingError, match=r"the storage of the study failed: .*; run it again"),
        storage_errors("run it again"),
    ):
        study.ask()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("CartPol-v1",), "did you mean CartPole-v1"),
        (("CartPole-v1", "--set", "gama=1"), "did you mean 'gamma'"),
        (("CartPole-v1", "--preset", "none.yml"), "cannot read none.yml"),
        (("CartPole-v1", "--space", "none.yml"), "cannot read none.yml"),
        (("CartPole-v1", "--storage", "redis://here"), "Redis is not supported"),
        (("CartPole-v1", "--show"), "holds no study; start one without --show"),
    ],
)
def test_a_mistake_on_the_command_line_leaves_nothing(
    arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    run_cli("tune", *arguments, cwd=tmp_path).assert_one_clear_line(says)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    run = run_cli("tune", "CartPole-v1", "-o", tmp_path)
    run.assert_one_clear_line("is not empty and holds no study; give another folder with -o")
    run = run_cli("tune", "CartPole-v1", "-o", tmp_path / "notes")
    run.assert_one_clear_line("notes is a file; give a folder with -o")
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


@pytest.mark.parametrize(
    ("env_id", "settings"),
    [
        ("CartPole-v1", []),
        ("Pendulum-v1", ["normalize={norm_reward: false}", "learning_rate=lin_0.001"]),
        (
            "Hopper-v5",
            ["policy_kwargs.activation_fn=ReLU", "policy_kwargs.net_arch={pi: [8], vf: [9]}"],
        ),
        ("own.module:Own-v0", ["env_kwargs={x: 1e-7}", "frame_stack=2", "stop_return=10"]),
    ],
)
def test_a_preset_has_every_setting(env_id: str, settings: list[str], tmp_path: Path) -> None:
    config = load_config(env_id, settings=settings, n_timesteps=3000, device="cpu", seed=5)
    write_preset(config, "a comment", tmp_path / "preset.yml")
    again = load_config(env_id, preset=str(tmp_path / "preset.yml"), device="cpu", seed=5)
    assert again == config
