"""Trials: the mean over the seeds is reported, pruned, continued and shown, and failures are named.

The runs are stand-ins that write an evaluation at each look; test_tune.py trains real ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from unittest import mock

import numpy as np
import optuna
import pytest
from matplotlib.figure import Figure
from optuna.trial import TrialState, create_trial
from rich.console import Console

from tests.command import run_cli
from trpo_deploy.cli import tune as cli
from trpo_deploy.errors import TrainingError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.train.run.benchmark.variants import Variant
from trpo_deploy.train.run.jobs import loop
from trpo_deploy.train.run.jobs.lease import Lease, Leases
from trpo_deploy.train.run.tuning import trial as module
from trpo_deploy.train.run.tuning import tuning
from trpo_deploy.train.run.tuning.report import _tidy, write_report
from trpo_deploy.train.run.tuning.space import read_space
from trpo_deploy.train.run.tuning.study import StudyFolder, Task

STEPS = 1000
ROLLOUT = 130


class StandIn:
    """A run whose returns grow; seed 1 is 10 better, and a batch size of 8 is 50 worse.

    Evaluations come after each rollout, as in a training. A run with ``batch_size=16`` fails.
    """

    running = 0
    started: list[Path]
    killed_after = -1
    """Looks after which the whole process is killed."""
    rollouts = 1
    """Rollouts between two looks."""

    def __init__(self, env_id: str, folder: ModelDir, options: list[str]) -> None:
        self.folder = folder
        self.error = "out of order"
        self._batch = int(next(text for text in options if "batch_size=" in text).partition("=")[2])
        self._seed = int(options[options.index("--seed") + 1])
        self._n = 0
        assert env_id == "CartPole-v1"
        StandIn.running += 1
        StandIn.started.append(folder.root)

    def poll(self) -> int | None:
        if StandIn.killed_after == 0:
            raise KeyboardInterrupt
        StandIn.killed_after -= 1
        if self._batch == 16:
            return 1
        self._n += StandIn.rollouts
        timesteps = np.arange(self._n + 1) * ROLLOUT
        means = timesteps / 10 + 10 * self._seed - 50 * (self._batch == 8)
        self.folder.root.mkdir(parents=True, exist_ok=True)
        results = means[:, None] + [-1, 1]
        np.savez(self.folder.evaluations, timesteps=timesteps, results=results)
        return 0 if timesteps[-1] >= STEPS else None

    def stop(self) -> None:
        pass

    def close(self) -> None:
        StandIn.running -= 1


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "TrainProcess", StandIn)
    monkeypatch.setattr(tuning, "benchmark", lambda *_: [])
    monkeypatch.setattr(tuning, "write_report", lambda *_: None)  # plots take a second
    monkeypatch.setattr(loop, "POLL_S", 0.0)
    monkeypatch.setattr(loop, "_LOOK_S", 0.0)
    monkeypatch.setattr(StandIn, "started", [], raising=False)
    monkeypatch.setattr(StandIn, "running", 0)
    monkeypatch.setattr(StandIn, "killed_after", -1)
    yield
    assert StandIn.running == 0


def tune(
    folder: Path,
    batches: list[int],
    n_trials: int,
    lines: list[str] | None = None,
    storage: str | None = None,
) -> None:
    space = folder.with_suffix(".yml")
    if not space.is_file():
        space.write_text(to_yaml({"batch_size": batches}))
    task = Task("CartPole-v1", STEPS, Variant(), 2)
    lines = [] if lines is None else lines
    tuning.tune(task, space, StudyFolder(folder, storage), n_trials, 1, lines.append)


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return StudyFolder(folder, None).find().trials


def test_a_trial_reports_the_mean_over_its_seeds_at_each_step(tmp_path: Path) -> None:
    tune(tmp_path / "study", [4, 32], 1)
    (trial,) = trials_of(tmp_path / "study")
    assert trial.state == TrialState.COMPLETE
    # Evaluations come every 130 steps; between them the value is interpolated.
    steps = range(100, 1000, 100)
    assert trial.intermediate_values == pytest.approx(
        {**{step: step / 10 + 5 for step in steps}, 1000: 104 + 5}
    )
    assert trial.value == pytest.approx(109)
    assert trial.user_attrs["returns"] == pytest.approx([104, 114])


def with_good_trials(folder: Path) -> None:
    """A study that has five finished trials, better than any stand-in with a batch size of 8."""
    space = folder.with_suffix(".yml")
    space.write_text(to_yaml({"batch_size": [4, 8]}))
    task = Task("CartPole-v1", STEPS, Variant(), 2)
    study = StudyFolder(folder, None).open(task, read_space(space, task.config))
    for _ in range(5):
        values = {step: step / 10 + 2.0 for step in range(100, 1001, 100)}
        attributes = {"settings": ["batch_size=4"], "returns": [101.0, 103.0]}
        study.add_trial(create_trial(value=102, intermediate_values=values, user_attrs=attributes))


def test_a_trial_below_the_median_is_pruned_early(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    with_good_trials(folder)
    lines: list[str] = []
    tune(folder, [4, 8], 15, lines)
    trials = trials_of(folder)[5:]
    bad = [trial for trial in trials if trial.params["batch_size"] == "8"]
    assert bad
    for trial in bad:
        assert trial.state == TrialState.PRUNED
        assert trial.last_step == 200  # the first fifth is never pruned
        assert f"trial {trial.number} of 15: pruned after 200 steps with -25.0" in lines
    good = [trial for trial in trials if trial not in bad]
    assert {trial.state for trial in good} == {TrialState.COMPLETE}


def test_a_process_that_looks_seldom_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rollouts in (1, 4):
        folder = tmp_path / str(rollouts)
        with_good_trials(folder)
        monkeypatch.setattr(StandIn, "rollouts", rollouts)
        tune(folder, [4, 8], 15)
    for often, seldom in zip(trials_of(tmp_path / "1"), trials_of(tmp_path / "4"), strict=True):
        assert often.state == seldom.state
        assert often.last_step == seldom.last_step
        assert often.intermediate_values.keys() == seldom.intermediate_values.keys()


def test_a_trial_of_a_killed_process_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(tmp_path / "whole", [4, 32], 3)
    for looks in (0, 1, 7, 13, 20):
        folder = tmp_path / f"after-{looks}"
        monkeypatch.setattr(StandIn, "killed_after", looks)
        with pytest.raises(KeyboardInterrupt):
            tune(folder, [4, 32], 3)
        assert sum(trial.state == TrialState.RUNNING for trial in trials_of(folder)) == 1
        monkeypatch.setattr(StandIn, "killed_after", -1)
        tune(folder, [4, 32], 3)
        for before, after in zip(trials_of(tmp_path / "whole"), trials_of(folder), strict=True):
            assert before.params == after.params
            assert before.intermediate_values == after.intermediate_values
            assert before.value == after.value


@pytest.mark.parametrize("name", [None, "sqlite:///{}/study.db"])
def test_each_trial_is_run_by_one_of_several_processes(name: str | None, tmp_path: Path) -> None:
    storage = None if name is None else name.format(tmp_path)
    folder = tmp_path / "study"
    (tmp_path / "study.yml").write_text(to_yaml({"batch_size": [4, 32]}))
    with ThreadPoolExecutor(3) as pool:  # each with its own leases, as a process has them
        for done in [pool.submit(tune, folder, [4, 32], 9, None, storage) for _ in range(3)]:
            done.result()
    trials = StudyFolder(folder, storage).find().trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 9
    assert len(StandIn.started) == len({*StandIn.started}) == 9 * 2


def test_a_trial_that_has_just_ended_elsewhere_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    with_good_trials(folder)
    study = StudyFolder(folder, None).find()
    study.ask()
    take = Leases.take

    def take_after_its_end(leases: Leases, name: str) -> Lease | None:
        study.tell(5, 1.0, skip_if_finished=True)
        return take(leases, name)

    monkeypatch.setattr(Leases, "take", take_after_its_end)
    tune(folder, [4, 8], 6)
    assert trials_of(folder)[5].value == 1.0
    assert StandIn.started == []


def test_a_failed_trial_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    lines: list[str] = []
    tune(tmp_path / "study", [4, 16, 32], 8, lines)
    failed = [trial for trial in trials_of(tmp_path / "study") if trial.state == TrialState.FAIL]
    assert 0 < len(failed) < 8
    for trial in failed:
        assert f"trial {trial.number} of 8: failed: seed 0: out of order" in lines


def test_a_study_in_which_nothing_works_stops_soon(tmp_path: Path) -> None:
    (tmp_path / "study.yml").write_text(to_yaml({"batch_size": [16, 32]}))
    StandIn.killed_after = -1
    task = Task("CartPole-v1", STEPS, Variant(settings=("gamma=0.9",)), 1)
    folder = StudyFolder(tmp_path / "study", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StandIn, "poll", lambda _: 1)
        for _ in range(2):  # the second time it tries again
            with pytest.raises(TrainingError, match=r"5 trials in a row failed: trial .: seed 0: "):
                tuning.tune(task, tmp_path / "study.yml", folder, 50, 1, list[str]().append)
    assert len(folder.find().trials) == 10


def test_a_full_disk_does_not_use_up_the_trials_of_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    with_good_trials(folder)
    with monkeypatch.context() as patch:
        patch.setattr(StandIn, "poll", lambda _: 1)
        with pytest.raises(TrainingError, match="run the same command again to continue the study"):
            tune(folder, [4, 8], 15)
    assert len(trials_of(folder)) == 5 + 5
    tune(folder, [4, 8], 15)
    assert sum(trial.state == TrialState.FAIL for trial in trials_of(folder)) == 5


def test_more_trials_continue_the_study_and_fewer_only_report(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    for n, expected in ((2, 2), (4, 4), (1, 4)):
        tune(folder, [4, 32], n)
        assert len(trials_of(folder)) == expected


def test_the_table_has_the_best_trial_first_and_show_prints_it(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    tune(folder, [4, 8], 6)
    study = StudyFolder(folder, None)
    write_report(study.find(), study)
    lines = (folder / "trials.csv").read_text().splitlines()
    assert lines[0] == "trial,state,return,steps,batch_size"
    best = lines[1].split(",")
    assert best[1:] == ["complete", "109.0 ± 5.0", "1000", "4"]
    assert f"trial {best[0]} of 6" in (folder / "preset.yml").read_text()
    for name in ("history", "trials", "importances", "slice"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    shown = run_cli("tune", "CartPole-v1", "--show", "-o", folder)
    assert shown.code == 0
    assert "6 trials, 0 running" in shown.output
    # A pipe gets all settings, however many there are.
    assert (folder / "trials.md").read_text() in shown.output


def test_show_names_the_trial_that_nobody_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(tmp_path / "study", None)
    monkeypatch.setattr(StandIn, "killed_after", 7)
    with pytest.raises(KeyboardInterrupt):
        tune(folder.root, [4, 32], 3)
    for holder, state in ((folder.leases.take("trial-0"), "running"), (None, "stopped")):
        shown = run_cli("tune", "CartPole-v1", "--show", "-o", folder.root)
        assert f"1 trial, {int(holder is not None)} running" in shown.output
        assert f"| 0 | {state} | " in shown.output
        if holder is not None:
            holder.close()


def test_show_goes_on_in_the_gap_between_two_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=StringIO(), force_terminal=True, width=60, height=20)
    looks = [True, False, True, False, False]
    settings = "0.123456789", "abcdefghijklmnopqrstuvwxyz"
    lines = [["trial", "state", "return", "steps", "gamma", "name"], ["0", "", "", "", *settings]]
    monkeypatch.setattr(cli, "stdout_console", lambda: terminal)
    monkeypatch.setattr(cli, "_look", lambda *_: ("a title", lines, looks.pop(0)))
    monkeypatch.setattr(cli, "_SHOW_S", 0.0)
    cli._show(mock.Mock())
    assert looks == []
    assert isinstance(terminal.file, StringIO)
    shown = terminal.file.getvalue()
    assert "…" in shown  # a line for each trial while it updates
    assert "".join(re.findall(r"[a-z]", shown.rpartition("name=")[2])).startswith(settings[1])


def test_axes_have_whole_trials_and_numbers_on_a_narrow_range() -> None:
    figure = Figure()
    history, *slices = figure.subplots(1, 3)
    history.plot([0, 1, 2], [1, 2, 3])
    history.set_xlabel("Trial")
    for axes in slices:
        axes.semilogx([2e-4, 7e-4], [1, 2])
    _tidy([history, *slices])
    figure.canvas.draw()
    assert all(float(tick).is_integer() for tick in history.get_xticks())
    for axes in slices:
        assert any(label.get_text() for label in axes.get_xticklabels(which="both"))


def test_a_study_with_one_trial_has_the_plots_that_it_can_have(tmp_path: Path) -> None:
    tune(tmp_path / "study", [4, 8], 1)
    study, folder = StudyFolder(tmp_path / "study", None).find(), tmp_path / "again"
    folder.mkdir()
    write_report(study, StudyFolder(folder, None))
    assert {path.name for path in folder.glob("*.png")} == {"history.png", "trials.png"}
