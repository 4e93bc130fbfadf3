"""The training's own returns reveal what a reading of its run has missed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.command import run_cli
from trpo_deploy.export.certify.training_returns import (
    EPISODES,
    FALSE_ALARM,
    NAME,
    POWER,
    SHARE,
    GainScale,
)
from trpo_deploy.files.certificate import read_certificate
from trpo_deploy.files.runs import find_run
from trpo_deploy.sb3.evaluations import read_evaluations
from trpo_deploy.sb3.from_files import load_source
from trpo_deploy.sb3.source import SourceOptions
from trpo_deploy.sb3.training_record import TrainingRecord

DRAWS = 1000


def test_a_file_at_the_share_is_rarely_accused_and_one_at_random_is_seen() -> None:
    rng = np.random.default_rng(0)
    accused = seen = 0
    power = []
    for _ in range(DRAWS):
        scale = GainScale(rng.normal(300.0, 150.0, 10), rng.normal(0.0, 50.0, EPISODES))
        at_share = rng.normal(SHARE * 300.0, 150.0, 48)
        at_random = rng.normal(0.0, 150.0, 48)
        accused += scale.is_below(at_share, SHARE)
        seen += scale.is_below(at_random, SHARE)
        power.append(scale.power(at_random, SHARE))
    # Three standard errors of a frequency in 1000 draws: 0.3 % at 0.1 %, 4 % at 80 %. The power is
    # estimated from each draw, and on average rather too small.
    assert accused / DRAWS <= FALSE_ALARM + 0.003
    assert seen / DRAWS >= np.mean(power) - 0.04


@pytest.mark.parametrize(
    ("training", "right", "wrong", "random"),
    # Means and deviations of trained policies, with and without their normaliser.
    [
        ((1801, 46), (1796, 50), (151, 100), (-283, 70)),  # HalfCheetah
        ((3626, 10), (3682, 4), (42, 20), (18, 15)),  # Hopper
        ((3907, 500), (4100, 300), (308, 100), (2, 5)),  # Walker2d
        ((-105, 14), (-107, 14), (-200, 0), (-200, 0)),  # MountainCar
    ],
)
def test_a_policy_without_its_normaliser_is_far_below(
    training: tuple[float, float],
    right: tuple[float, float],
    wrong: tuple[float, float],
    random: tuple[float, float],
) -> None:
    rng = np.random.default_rng(1)
    scale = GainScale(rng.normal(*training, 20), rng.normal(*random, EPISODES))
    assert not scale.is_below(rng.normal(*right, 48), SHARE)
    assert scale.is_below(rng.normal(*wrong, 48), SHARE)
    assert scale.power(rng.normal(*right, 48), SHARE) > POWER


def test_a_training_that_learned_nothing_is_no_scale() -> None:
    rng = np.random.default_rng(2)
    returns = rng.normal(0, 1, (3, 20))
    assert GainScale(returns[0], returns[0] + 1).power(returns[2], SHARE) == 0.0
    assert GainScale(returns[0], returns[1]).power(returns[2], SHARE) < POWER
    two_episodes = GainScale(np.array([90.0, 110.0]), returns[1])
    assert two_episodes.power(returns[2], SHARE) < POWER


def copied(agents: Path, name: str, folder: Path) -> tuple[Path, Path]:
    """A copy of an agent's run, and the folder of its configuration."""
    shutil.copytree(agents / name, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder, folder / name.removesuffix("_1")


def test_statistics_that_are_left_out_are_a_failure(agents: Path, tmp_path: Path) -> None:
    run, configuration = copied(agents, "MountainCar-v0_1", tmp_path / "run")
    (configuration / "vecnormalize.pkl").unlink()
    onnx = tmp_path / "policy.onnx"
    failed = run_cli("export", run, "--no-normalize-check", "-o", onnx)
    failed.assert_one_clear_line(NAME, "-200 (file, 48 episodes)", "(--vecnormalize FILE)")
    assert not onnx.exists()


def test_wrong_arguments_of_the_environment_are_a_failure(agents: Path, tmp_path: Path) -> None:
    run, configuration = copied(agents, "Pendulum-v1_1", tmp_path / "run")
    (configuration / "args.yml").write_text("env_kwargs:\n  g: 20.0\n")
    failed = run_cli("export", run, "-o", tmp_path / "policy.onnx")
    failed.assert_one_clear_line(NAME, "arguments of the environment")


def test_nothing_recorded_is_said_by_export_card_and_inspect(agents: Path, tmp_path: Path) -> None:
    run, _ = copied(agents, "CartPole-v1_1", tmp_path / "run")
    (run / "evaluations.npz").unlink()
    source = load_source(find_run(run), SourceOptions())
    assert source.recorded_returns() == ()
    onnx = run / "policy.onnx"
    exported = run_cli("export", run, "-o", onnx)
    inspected = run_cli("inspect", onnx)
    for text in (exported.output, onnx.with_suffix(".md").read_text(), inspected.output):
        assert f"{NAME}: " in text
        assert "no witness: neither the model nor an evaluation of its run recorded" in text
    certificate = read_certificate(onnx)
    assert certificate is not None
    assert certificate["verdict"] == "pass"
    assert certificate["checks"][-1]["passed"] is None


def test_an_environment_that_cannot_be_made_is_said(agents: Path, tmp_path: Path) -> None:
    exported = run_cli("export", agents / "ReacherBulletEnv-v0_1", "-o", tmp_path / "p.onnx")
    assert exported.code == 0
    assert "no witness: the environment ReacherBulletEnv-v0 cannot be made" in exported.output


def test_only_evaluations_near_the_policys_timesteps_are_used(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.npz"
    steps = np.array([100, 1000, 1040, 2000])
    np.savez(path, timesteps=steps, results=np.outer(steps, [1.0, 1.0]))
    assert set(read_evaluations(path, 1040)) == {1040}
    assert set(read_evaluations(path, 1020)) == {1000, 1040}
    assert set(read_evaluations(path, 1100)) == {1040}
    assert read_evaluations(path, 500) == {}
    assert read_evaluations(path, 0) == {}


def test_the_last_training_episodes_are_used(agents: Path) -> None:
    source = load_source(find_run(agents / "CartPole-v1_1"), SourceOptions())
    returns = np.arange(100.0)
    found = replace(source, training_record=TrainingRecord(episode_returns=returns))
    evaluation, every, last = found.recorded_returns()
    assert evaluation.same_policy
    assert (every.same_policy, last.same_policy) == (False, False)
    assert every.returns.tolist() == returns.tolist()
    assert last.returns.tolist() == [*range(90, 100)]
    one = replace(
        source, evaluations={}, training_record=TrainingRecord(episode_returns=returns[:1])
    )
    assert one.recorded_returns() == ()
