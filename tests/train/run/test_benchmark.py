"""A benchmark keeps what it has, and says of it what the raw data says."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.command import run_cli
from tests.train.environments import RandomEnv
from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.train.config.load import load_config
from trpo_deploy.train.run.benchmark.report import write_report
from trpo_deploy.train.run.benchmark.results import TaskResult, load_result


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    finals = np.array([-1000.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9000.0])
    middle, low, high = TaskResult("X-v0", np.array([1]), finals[:, None]).iqm()
    assert middle == pytest.approx(np.mean([2.0, 3.0, 4.0, 5.0]))
    assert low < middle < high
    assert np.isnan(TaskResult("X-v0", np.array([1]), finals[:1, None]).iqm()[1])


def test_tables_and_curves_say_the_same(tmp_path: Path) -> None:
    returns = np.array([[1.0, 30.0, 20.0], [2.0, 10.0, 40.0]])
    result = TaskResult("X_y-v0", np.array([1, 2, 3]), returns)
    write_report([result, result], tmp_path)
    with (tmp_path / "table.csv").open(newline="") as file:
        row = list(csv.reader(file))[1]
    assert row[:6] == ["X_y-v0", "2", "30", "10", "35", "5"]
    assert "| " + " | ".join(row) + " |" in (tmp_path / "table.md").read_text()
    assert " & ".join(row) in (tmp_path / "table.tex").read_text().replace(r"\_", "_")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_it_trains_what_is_missing_and_keeps_what_is_there(tmp_path: Path) -> None:
    arguments = ("benchmark", "--env", "CartPole-v1", "-n", 2048, "-o", tmp_path)
    first = run_cli(*arguments, "--seeds", 1)
    assert first.code == 0, first.error
    policy = tmp_path / "runs" / "CartPole-v1" / "seed-100" / "policy.zip"
    before = policy.stat().st_mtime_ns
    second = run_cli(*arguments, "--seeds", 2)
    assert second.code == 0, second.error
    assert policy.stat().st_mtime_ns == before
    # What a crash left of a file is written anew.
    evaluations = policy.with_name("evaluations.npz")
    evaluations.write_bytes(evaluations.read_bytes()[:30])
    assert run_cli(*arguments, "--seeds", 2).code == 0
    result = load_result(tmp_path, "CartPole-v1", 2048)
    assert result is not None
    assert len(result.returns) == 2
    assert load_result(tmp_path, "CartPole-v1", 10_000) is None


def a_run(output: Path, env_id: str, seed: int, times: list[int], timesteps: int) -> Path:
    """As a repository keeps it: settings and evaluations, no policy."""
    folder = output / "runs" / env_id / f"seed-{seed}"
    folder.mkdir(parents=True)
    config = load_config(env_id, n_timesteps=timesteps, seed=seed, eval_every=50_000)
    (folder / "config.yaml").write_text(to_yaml({**config.to_dict(), "versions": {"torch": "2"}}))
    results = np.zeros((len(times), 2))
    np.savez(folder / "evaluations.npz", timesteps=times, results=results, ep_lengths=results)
    return folder


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("length", [1000, 5000])
def test_runs_of_another_length_are_neither_joined_nor_lost(
    seeds: int, length: int, tmp_path: Path
) -> None:
    folder = a_run(tmp_path, "CartPole-v1", 100, [1500, 3000], 3000)
    before = sorted(folder.parent.rglob("*"))
    run = run_cli(
        *("benchmark", "--env", "CartPole-v1", "--seeds", seeds, "-n", length, "-o", tmp_path)
    )
    run.assert_one_clear_line("n_timesteps=3000", f"would have {length}", "-n", "-o")
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("now", "earlier", "says"),
    [
        ("gamma: 0.99", "gamma: 0.9", ["gamma=0.9 (seed-101)", "would have 0.99"]),
        ("  batch_size: 512\n", "", ["batch_size=128 (seed-101)", "would have 512"]),
        ("n_envs: 2", "n_envs: 8", ["n_envs=8 (seed-101)", "would have 2"]),
    ],
)
def test_runs_with_an_earlier_preset_are_not_mixed_with_new_ones(
    now: str, earlier: str, says: list[str], tmp_path: Path
) -> None:
    for seed in (100, 101):
        folder = a_run(tmp_path, "CartPole-v1", seed, [3000], 3000)
    config = folder / "config.yaml"
    assert now in config.read_text()
    config.write_text(config.read_text().replace(now, earlier))
    arguments = ("benchmark", "--env", "CartPole-v1", "--seeds", 3, "-n", 3000, "-o", tmp_path)
    run_cli(*arguments).assert_one_clear_line(*says, "move them elsewhere", "-o")
    assert not (tmp_path / "table.md").exists()


def test_the_table_keeps_the_tasks_that_are_there(tmp_path: Path) -> None:
    for env_id, timesteps in (("A-v0", 3000), ("B-v0", 3000), ("C-v0", 9000)):
        a_run(tmp_path, env_id, 100, [timesteps], timesteps)
    arguments = ("benchmark", "--env", "B-v0", "--seeds", 1, "-n", 3000, "-o", tmp_path)
    run = run_cli(*arguments)
    assert run.code == 0, run.error
    with (tmp_path / "table.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["task", "B-v0", "A-v0"]


@pytest.mark.parametrize("other", [[20], [15, 20]])
def test_runs_that_do_not_belong_together_are_refused(other: list[int], tmp_path: Path) -> None:
    for seed, times in ((100, [10, 20]), (101, other)):
        a_run(tmp_path, "X-v0", seed, times, 20)
    with pytest.raises(ModelDirError, match="different steps"):
        load_result(tmp_path, "X-v0", 20)


def test_a_run_that_fails_is_named(tmp_path: Path) -> None:
    run = run_cli("benchmark", "--env", "CartPol-v1", "--seeds", 1, "-o", tmp_path)
    run.assert_one_clear_line("CartPol-v1 seed 100")


def test_a_run_that_fails_is_named_without_its_warnings(tmp_path: Path) -> None:
    arguments = ("--env", "tests.train.run.test_benchmark:Warns-v0", "--seeds", 1, "-n", 2048)
    run = run_cli("benchmark", *arguments, "-o", tmp_path)
    run.assert_one_clear_line("Warns-v0 seed 100: ", "step() raised RuntimeError: broken")
    assert "worn" not in run.error


class Warns(RandomEnv):
    """Warns, and fails."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))

    def step(self, action: Any) -> Any:  # noqa: ARG002
        warnings.warn("worn", stacklevel=1)
        raise RuntimeError("broken")


gymnasium.register("Warns-v0", entry_point=Warns, disable_env_checker=True)
