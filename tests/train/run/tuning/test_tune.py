"""``trpo-deploy tune`` with real runs: processes share a study, and one of them is killed."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState, create_trial

from tests.command import COMMAND, reset_sigint, run_cli
from tests.train.run.jobs.in_process import RunInThisProcess
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import read_yaml, to_yaml
from trpo_deploy.train.run.benchmark import runs as benchmark_runs
from trpo_deploy.train.run.benchmark.results import evaluated_timesteps
from trpo_deploy.train.run.benchmark.variants import Variant
from trpo_deploy.train.run.tuning import tuning
from trpo_deploy.train.run.tuning.space import read_space
from trpo_deploy.train.run.tuning.study import StudyFolder, Task

LIMIT_S = 600.0
"""Generous: a machine may be busy."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LIMIT_S)]


@pytest.fixture
def study(tmp_path: Path) -> list[str]:
    """The words of a command that tunes a small network in short runs."""
    activations = ["Tanh", "ReLU"]
    entries = {"gamma": {"low": 0.9, "high": 0.99}, "policy_kwargs.activation_fn": activations}
    (tmp_path / "space.yml").write_text(to_yaml(entries))
    small = ("n_envs=1", "n_steps=64", "batch_size=64", "policy_kwargs.net_arch=[4]")
    return [
        *("tune", "CartPole-v1", "--trials", "2", "--seeds", "1", "-n", "512", "--jobs", "1"),
        *("--space", str(tmp_path / "space.yml"), "-o", str(tmp_path / "study")),
        *(word for setting in small for word in ("--set", setting)),
    ]


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=reset_sigint,
    )


def wait_for(happened: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def has_trained(run: ModelDir) -> bool:
    """Whether a rollout has ended; before that, a stopped run has nothing to save."""
    return run.progress.is_file() and len(run.progress.read_text().splitlines()) > 1


def test_two_processes_share_a_study_of_which_one_is_killed(
    study: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one is this process; both train each trial in a process of its own.

    The runs of the comparison need none.
    """
    monkeypatch.setattr(benchmark_runs, "TrainProcess", RunInThisProcess)
    folder = StudyFolder(tmp_path / "study", None)
    first = start(study)

    def kill_first() -> None:
        wait_for(lambda: len(folder.find().trials) == 2, "the trial of the second process")
        first.kill()
        first.wait()  # until then its lease counts as that of a living process

    try:
        wait_for(folder.run(0, 0).config.is_file, "the trial of the first process")
        # It holds its trial, but cannot end it and begin the other one.
        first.send_signal(signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            killed = pool.submit(kill_first)
            second = run_cli(*study)
            killed.result()
    finally:
        first.kill()
        first.communicate()
    assert second.code == 0, second.error
    trials = folder.find().trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert len({str(trial.params) for trial in trials}) == 2
    for trial in trials:
        assert f"trial {trial.number} of 2: " in second.output
        assert evaluated_timesteps(folder.run(trial.number, 0)) == 512
    _assert_result(folder, second.output)


def _assert_result(folder: StudyFolder, output: str) -> None:
    best = folder.find().best_trial
    assert f"best: trial {best.number} with {best.value:.1f}" in output
    table = (folder.comparison / "comparison.md").read_text()
    assert table.strip() in output
    assert "note: 2 fresh seeds are too few" in output
    for name in ("default", f"trial-{best.number}"):
        assert f"| CartPole-v1 | {name} | 2 |" in table
    seeds = sorted(path.name for path in folder.comparison.glob("runs/CartPole-v1/seed-*"))
    assert seeds == ["seed-100", "seed-101"]
    # The preset trains what the best trial trained, and the returns are the same.
    preset = ("--preset", folder.preset, "--no-export", "--seed", 0, "-o", folder.root / "again")
    run = run_cli("train", "CartPole-v1", *preset, "--eval-episodes", 10, "--no-progress")
    assert run.code == 0, run.error
    assert f"return {best.value:.1f} ±" in run.output
    config = read_yaml(folder.root / "again" / "config.yaml")
    assert config["n_timesteps"] == 512
    assert f"gamma={config['hyperparameters']['gamma']}" in best.user_attrs["settings"]
    assert config["hyperparameters"]["policy_kwargs"]["net_arch"] == [4]


def test_a_stopped_study_leaves_its_run_to_the_next_process(
    study: list[str], tmp_path: Path
) -> None:
    long = [*study, "-n", "100_000_000"]
    process = start(long)
    run = ModelDir(tmp_path / "study" / "runs" / "trial-0" / "seed-0")
    try:
        wait_for(lambda: has_trained(run), "a rollout")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == 130
    assert output.splitlines()[-1] == "stopped; run the same command again to continue the study"
    assert run.checkpoint.is_file()
    assert not list((tmp_path / "study" / ".leases").iterdir())
    with run.claimed():  # nobody writes into it
        pass


def test_pruning_ends_the_processes_of_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "benchmark", lambda *_: [])
    steps, settings = 20_000, ("n_envs=1", "n_steps=64", "policy_kwargs.net_arch=[4]")
    task = Task("CartPole-v1", steps, Variant(settings=settings), 2)
    (tmp_path / "space.yml").write_text(to_yaml({"gamma": [0.9, 0.99]}))
    folder = StudyFolder(tmp_path / "study", None)
    study = folder.open(task, read_space(tmp_path / "space.yml", task.config))
    better = dict.fromkeys(range(2000, steps + 1, 2000), 501.0)
    for _ in range(5):
        attributes = {"settings": ["gamma=0.9"]}
        study.add_trial(create_trial(value=501, intermediate_values=better, user_attrs=attributes))
    tuning.tune(task, tmp_path / "space.yml", folder, 6, 1, list[str]().append)
    trial = folder.find().trials[5]
    assert (trial.state, trial.last_step) == (TrialState.PRUNED, 4000)
    runs = [folder.run(5, seed) for seed in range(2)]
    # One of them may have been at its end before the other had begun.
    assert 4000 <= min(map(evaluated_timesteps, runs)) < steps
    for run in runs:
        assert not _processes_in(run.root)


def test_the_run_of_a_killed_process_ends_with_it(study: list[str], tmp_path: Path) -> None:
    process = start([*study, "-n", "100_000_000"])
    run = ModelDir(tmp_path / "study" / "runs" / "trial-0" / "seed-0")
    try:
        wait_for(lambda: has_trained(run), "a rollout")
    finally:
        process.kill()
        process.communicate()
    wait_for(run.checkpoint.is_file, "the checkpoint")
    wait_for(lambda: not _processes_in(run.root), "the end of the run")


def _processes_in(folder: Path) -> list[psutil.Process]:
    """Processes that have a model folder in their command line."""
    found = psutil.process_iter(["cmdline"])
    return [each for each in found if str(folder) in (each.info["cmdline"] or ())]
