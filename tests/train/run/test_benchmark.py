"""A benchmark keeps finished runs, never mixes experiments, and reports what the raw data say."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from scipy import stats

from tests.train.environments import RandomEnv
from tests.train.registration import register
from tests.train.run.jobs.in_process import RunInThisProcess
from trpo_deploy.errors import ModelDirError, TrainingError
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.train.config.load import load_config
from trpo_deploy.train.run.benchmark import runs
from trpo_deploy.train.run.benchmark.comparison import probability_of_improvement
from trpo_deploy.train.run.benchmark.report import write_report
from trpo_deploy.train.run.benchmark.results import TaskResult, load_result
from trpo_deploy.train.run.benchmark.runner import benchmark
from trpo_deploy.train.run.benchmark.tables import write_tables
from trpo_deploy.train.run.benchmark.variants import Variant, parse_variants


def run_benchmark(output: Path, *env_ids: str, timesteps: int, seeds: int = 1) -> list[TaskResult]:
    return benchmark(env_ids, seeds, timesteps, output, processes=1, report=lambda _: None)


def test_the_interquartile_mean_is_the_mean_of_the_middle_half() -> None:
    finals = np.array([-1000.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 9000.0])
    middle, low, high = TaskResult("X-v0", np.array([1]), finals[:, None]).iqm()
    assert middle == pytest.approx(np.mean([2.0, 3.0, 4.0, 5.0]))
    assert low < middle < high
    assert np.isnan(TaskResult("X-v0", np.array([1]), finals[:1, None]).iqm()[1])


@pytest.mark.parametrize("finals", [[1.0, 4.0], [3.0, 5.0, 10.0, -7.0]])
def test_the_interval_of_the_mean_is_that_of_a_t_test(finals: list[float]) -> None:
    returns = np.array(finals)
    low, high = TaskResult("X-v0", np.array([1]), returns[:, None]).mean_interval()
    expected = stats.ttest_1samp(returns, 0.0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert np.isnan(TaskResult("X-v0", np.array([1]), returns[:1, None]).mean_interval()[0])


def test_settings_keep_their_braces_in_latex(tmp_path: Path) -> None:
    write_tables(tmp_path / "t", [["net_arch"], ['{"pi": [64]} & 100 %']])
    text = (tmp_path / "t.tex").read_text()
    assert r"net\_arch" in text
    assert r'\{"pi": [64]\} \& 100 \%' in text


def test_all_tables_contain_the_same_numbers(tmp_path: Path) -> None:
    returns = np.array([[1.0, 30.0, 20.0], [2.0, 10.0, 40.0]])
    result = TaskResult("X_y-v0", np.array([1, 2, 3]), returns)
    write_report([result, result], tmp_path)
    with (tmp_path / "table.csv").open(newline="") as file:
        row = list(csv.reader(file))[1]
    # Student's t for two seeds is 12.7, the standard error 10.
    assert row[:7] == ["X_y-v0", "2", "30", "10", "[-97, 157]", "35", "5"]
    assert "| " + " | ".join(row) + " |" in (tmp_path / "table.md").read_text()
    assert " & ".join(row) in (tmp_path / "table.tex").read_text().replace(r"\_", "_")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_probability_of_improvement_is_mann_whitneys_averaged_over_tasks() -> None:
    ours = [np.array([1.0, 4.0, 6.0]), np.array([5.0, 5.0])]
    theirs = [np.array([2.0, 4.0]), np.array([5.0, 7.0])]
    # Of six pairs three are won and one is a tie; of four pairs two are ties.
    value, low, high = probability_of_improvement(ours, theirs)
    assert value == pytest.approx(np.mean([3.5 / 6, 1 / 4]))
    by_scipy = [
        stats.mannwhitneyu(*task).statistic / (len(task[0]) * len(task[1]))
        for task in zip(ours, theirs, strict=True)
    ]
    assert value == pytest.approx(np.mean(by_scipy))
    assert 0 < low < value < high < 1
    assert probability_of_improvement(theirs, ours)[0] == pytest.approx(1 - value)
    assert np.isnan(probability_of_improvement([ours[0][:1]], [theirs[0]])[1])


def test_the_interval_of_improvement_covers_the_true_probability() -> None:
    """Normal returns of equal means win half the time."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        ours, theirs = ([rng.normal(size=15) for _ in range(2)] for _ in range(2))
        _, low, high = probability_of_improvement(ours, theirs)
        covered += low <= 0.5 <= high
    # 95 % intervals by percentiles of small samples cover a little less.
    assert 85 <= covered <= 100


def test_names_before_settings_and_presets_are_variants() -> None:
    wrapper = "env_wrapper=own.wrappers:Slow"
    assert parse_variants([], []) == [Variant()]
    assert parse_variants(
        ["zoo:trpo.yml"], ["wide:target_kl=0.02", wrapper, "wide:policy_kwargs={a: b}"]
    ) == [
        Variant(settings=(wrapper,)),
        Variant("zoo", "trpo.yml", (wrapper,)),
        Variant("wide", None, ("target_kl=0.02", wrapper, "policy_kwargs={a: b}")),
    ]
    assert [each.preset for each in parse_variants(["a.yml", "b:b.yml"], [])] == ["a.yml", "b.yml"]


def test_settings_are_compared_in_one_table_and_one_plot(tmp_path: Path) -> None:
    variants = parse_variants([], ["slow:learning_rate=1e-05", "far:target_kl=0.5"])
    gain = {"default": 0.0, "slow": -50.0, "far": 2.0}
    for variant in variants:
        for env_id in ("CartPole-v1", "Acrobot-v1"):
            for seed in (200, 201, 202):
                last = 10.0 * (seed - 200) + gain[variant.name]
                folder = variant.folder(tmp_path)
                a_run(folder, env_id, seed, [0, 3000], 3000, *variant.settings, last=last)
    env_ids, lines = ("CartPole-v1", "Acrobot-v1"), list[str]()
    benchmark(env_ids, 3, 3000, tmp_path, 1, lines.append, variants)
    assert "slow: Acrobot-v1 seed 202: -30.0" in lines
    with (tmp_path / "comparison.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header[-2] == "P(better than default)"
    assert [row[:2] for row in rows] == [
        *([env_id, name] for env_id in env_ids for name in gain),
        ["all", "slow"],
        ["all", "far"],
    ]
    better = {tuple(row[:2]): row[6] for row in rows}
    assert better["CartPole-v1", "slow"] == "0.00"
    assert better["all", "far"] == "0.67"  # of nine pairs six are won
    assert rows[0][2:5] == ["3", "10.0", "10.0"]
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "variants" / "far" / "table.md").is_file()
    # A name keeps its meaning: other settings under it are refused.
    other = parse_variants([], ["far:target_kl=0.4"])
    with pytest.raises(ModelDirError, match=r"variants.far have target_kl=0\.5 .* have 0\.4"):
        benchmark(env_ids, 3, 3000, tmp_path, 1, lines.append, other)


@pytest.mark.slow
def test_only_missing_and_damaged_runs_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "TrainProcess", RunInThisProcess)
    run_benchmark(tmp_path, "CartPole-v1", timesteps=2048)
    policy = tmp_path / "runs" / "CartPole-v1" / "seed-200" / "policy.zip"
    before = policy.stat().st_mtime_ns
    run_benchmark(tmp_path, "CartPole-v1", timesteps=2048, seeds=2)
    assert policy.stat().st_mtime_ns == before
    evaluations = policy.with_name("evaluations.npz")
    evaluations.write_bytes(evaluations.read_bytes()[:30])  # as after a crash
    run_benchmark(tmp_path, "CartPole-v1", timesteps=2048, seeds=2)
    result = load_result(tmp_path, "CartPole-v1", 2048)
    assert result is not None
    assert len(result.returns) == 2
    assert load_result(tmp_path, "CartPole-v1", 10_000) is None


def a_run(
    output: Path,
    env_id: str,
    seed: int,
    times: list[int],
    timesteps: int,
    *settings: str,
    last: float = 0.0,
) -> Path:
    """A run as a repository keeps it: settings and evaluations, no policy."""
    folder = output / "runs" / env_id / f"seed-{seed}"
    folder.mkdir(parents=True)
    config = load_config(
        env_id, settings=settings, n_timesteps=timesteps, seed=seed, eval_every=50_000
    )
    (folder / "config.yaml").write_text(to_yaml({**config.to_dict(), "versions": {"torch": "2"}}))
    results = np.zeros((len(times), 2))
    results[-1] = last
    np.savez(folder / "evaluations.npz", timesteps=times, results=results, ep_lengths=results)
    return folder


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("length", [1000, 5000])
def test_runs_of_another_length_are_refused_and_kept(
    seeds: int, length: int, tmp_path: Path
) -> None:
    folder = a_run(tmp_path, "CartPole-v1", 200, [1500, 3000], 3000)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(ModelDirError, match=f"n_timesteps=3000 .* would have {length}; .*-n.*-o"):
        run_benchmark(tmp_path, "CartPole-v1", timesteps=length, seeds=seeds)
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("now", "earlier", "says"),
    [
        ("gamma: 0.99", "gamma: 0.9", r"gamma=0.9 \(seed-201\), .* would have 0.99"),
        ("  batch_size: 512\n", "", r"batch_size=128 \(seed-201\), .* would have 512"),
        ("n_envs: 2", "n_envs: 8", r"n_envs=8 \(seed-201\), .* would have 2"),
    ],
)
def test_runs_with_an_earlier_preset_are_not_mixed_with_new_ones(
    now: str, earlier: str, says: str, tmp_path: Path
) -> None:
    for seed in (200, 201):
        folder = a_run(tmp_path, "CartPole-v1", seed, [3000], 3000)
    config = folder / "config.yaml"
    assert now in config.read_text()
    config.write_text(config.read_text().replace(now, earlier))
    with pytest.raises(ModelDirError, match=f"{says}; move them elsewhere, .*-o"):
        run_benchmark(tmp_path, "CartPole-v1", timesteps=3000, seeds=3)
    assert not (tmp_path / "table.md").exists()


def test_the_table_contains_the_other_tasks_of_the_same_length(tmp_path: Path) -> None:
    for env_id, timesteps in (("A-v0", 3000), ("B-v0", 3000), ("C-v0", 9000)):
        a_run(tmp_path, env_id, 200, [timesteps], timesteps)
    run_benchmark(tmp_path, "B-v0", timesteps=3000)
    with (tmp_path / "table.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["task", "B-v0", "A-v0"]


def test_older_runs_have_no_evaluation_at_step_0_and_stay_comparable(tmp_path: Path) -> None:
    for seed, times in ((100, [10, 20]), (101, [0, 10, 20])):
        a_run(tmp_path, "X-v0", seed, times, 20)
    result = load_result(tmp_path, "X-v0", 20)
    assert result is not None
    assert result.timesteps.tolist() == [10, 20]
    assert result.returns.shape == (2, 2)


def test_the_best_evaluation_is_of_a_trained_policy() -> None:
    returns = np.array([[9.0, 1.0, 2.0], [9.0, 4.0, 3.0]])
    assert TaskResult("X-v0", np.array([0, 10, 20]), returns).best.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("other", [[20], [15, 20]])
def test_runs_with_other_evaluations_are_not_averaged(other: list[int], tmp_path: Path) -> None:
    for seed, times in ((100, [10, 20]), (101, other)):
        a_run(tmp_path, "X-v0", seed, times, 20)
    with pytest.raises(ModelDirError, match="different steps"):
        load_result(tmp_path, "X-v0", 20)


@pytest.mark.parametrize(
    ("env_id", "says"),
    [
        ("CartPol-v1", "CartPol-v1 seed 200: "),
        # With its error, without its warnings.
        (f"{__name__}:Warns-v0", r"Warns-v0 seed 200: .*step\(\) raised RuntimeError: broken"),
    ],
)
def test_a_run_that_fails_is_named(env_id: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=says) as caught:
        run_benchmark(tmp_path, env_id, timesteps=2048)
    assert "worn" not in str(caught.value)


class Warns(RandomEnv):
    """Warns, then fails."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))

    def step(self, action: Any) -> Any:  # noqa: ARG002
        warnings.warn("worn", stacklevel=1)
        raise RuntimeError("broken")


register("Warns-v0", Warns)
