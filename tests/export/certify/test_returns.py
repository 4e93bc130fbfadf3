"""The check of returns accepts chance, sees a loss of 5 %, and says when it cannot decide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.command import run_cli
from tests.export.policies import BOX, SpaceEnv, make_model, save
from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import play
from trpo_deploy.export import SourceOptions, export_policy
from trpo_deploy.export.certify.engines import load_onnxruntime
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.certify.returns import (
    FALSE_ALARM,
    MIN_EPISODES,
    POWER,
    PairedTest,
    check_returns,
    compare_returns,
)
from trpo_deploy.export.certify.student import student_quantile
from trpo_deploy.files.runs import find_run
from trpo_deploy.sb3.from_files import load_source
from trpo_deploy.spec.spaces import Array

DRAWS = 1000


def _walks(rng: np.random.Generator, n: int, std: float, mean: float = 1000.0) -> Array:
    """Returns of a chaotic environment, where no two episodes are the same."""
    return rng.normal(mean, std, n)


def _falling(rng: np.random.Generator, n: int, often: float) -> Array:
    """Returns of a walker that sometimes falls at once, as Ant does."""
    return np.where(rng.random(n) < often, rng.normal(100, 30, n), _walks(rng, n, 30.0))


def _sequential(rng: np.random.Generator, std: float, mean: float) -> bool | None:
    """Play as the certificate does: until the power is reached."""
    sb3, file = np.empty(0), np.empty(0)
    while True:
        sb3 = np.concatenate([sb3, _walks(rng, 16, std)])
        file = np.concatenate([file, _walks(rng, 16, std, mean)])
        test = PairedTest.of(sb3, file)
        if len(sb3) >= MIN_EPISODES and test.power >= POWER:
            return test.passed


@pytest.mark.parametrize(
    ("probability", "df", "quantile"),
    # Tables of Student's distribution, for example Abramowitz and Stegun, table 26.10.
    [(0.975, 1, 12.706), (0.975, 2, 4.303), (0.995, 5, 4.032), (0.999, 9, 4.297)],
)
def test_quantiles_are_those_of_the_tables(probability: float, df: int, quantile: float) -> None:
    assert student_quantile(probability, df) == pytest.approx(quantile, abs=6e-4)


@pytest.mark.parametrize("std", [50.0, 100.0])
def test_the_stated_power_and_false_alarms_are_true(std: float) -> None:
    """Deciding when to stop changes neither, since it depends on the spread only."""
    rng = np.random.default_rng(1)
    right = [_sequential(rng, std, 1000.0) for _ in range(DRAWS)]
    wrong = [_sequential(rng, std, 950.0) for _ in range(DRAWS)]
    # Three standard errors of a frequency in 1000 draws: 0.4 % at 0.2 %, 3 % at 90 %.
    assert right.count(False) / DRAWS <= FALSE_ALARM + 0.004
    assert wrong.count(False) / DRAWS >= POWER - 0.03


@pytest.mark.parametrize("often", [0.02, 0.06, 0.2, 0.4])
def test_rare_falls_are_accepted(often: float) -> None:
    rng = np.random.default_rng(2)
    found = [
        PairedTest.of(_falling(rng, 64, often), _falling(rng, 64, often)).passed
        for _ in range(DRAWS)
    ]
    assert found.count(False) / DRAWS <= FALSE_ALARM + 0.004


def test_ten_episodes_that_differ_by_a_fifth_are_undecided() -> None:
    """4010 ± 1760 and 4972 ± 226, as ten episodes of a falling Ant once gave."""
    sb3 = np.array([4972.0 + 226 * sign for sign in (-1, 1) * 5])
    file = np.array([5100.0] * 7 + [5300.0, 90.0, 110.0])
    check = check_returns(sb3, file)
    assert check.passed is None
    assert check.note.startswith("undecided")
    assert float(check.measured["power"]) < 0.1
    assert check.measured["interval_low"] < -check.measured["margin"]


def test_equal_episodes_pass_at_once() -> None:
    for value in (500.0, 0.0, -200.0):
        assert PairedTest.of(np.full(16, value), np.full(16, value)).passed


def test_a_tiny_difference_in_every_episode_passes() -> None:
    """Rounding may shift each return by the same tiny amount, which is then significant."""
    sb3 = np.random.default_rng(3).normal(100.0, 5.0, 48)
    assert PairedTest.of(sb3, sb3 - 1e-4).passed
    assert PairedTest.of(sb3, sb3 - 10.0).passed is False


def test_the_margin_is_of_the_spread_where_the_mean_return_is_near_zero() -> None:
    won = np.array([1.0, -1.0] * 24)
    test = PairedTest.of(won, won)
    assert test.margin == pytest.approx(0.05)
    assert test.passed
    # Every fourth game that was won is now lost.
    lost = won.copy()
    lost[::8] = -1.0
    assert PairedTest.of(won, lost).passed is not True


def test_playing_stops_at_the_time_limit(agents: Path, tmp_path: Path) -> None:
    """The first sixteen episodes are always played; the observations are of all their steps."""
    source = find_run(agents / "CartPole-v1_1")
    content = export_policy(source, tmp_path / "policy.onnx", verify=False).path.read_bytes()
    spec, loaded = ExportedFile.parse(content).spec, load_source(source, SourceOptions())
    engine = load_onnxruntime(content, spec.inputs)
    for seconds, episodes in ((0.0, 16), (60.0, MIN_EPISODES)):
        found = compare_returns(
            loaded.environment(),
            loaded.reference,
            engine,
            spec,
            seed=0,
            steps=100,
            seconds=seconds,
        )
        assert found.measured["episodes"] == len(found.file_returns) == episodes
        assert found.check.passed
        assert len(found.observations["obs"]) == 100


class Noisy(SpaceEnv):
    """Rewards that vary and do not depend on the seed."""

    rewards = np.random.default_rng(0)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, *ended = super().step(action)
        return observation, self.rewards.normal(1.0, 3.0), *ended


def test_undecided_returns_are_said_and_do_not_fail_the_certificate(tmp_path: Path) -> None:
    gymnasium.register("Noisy-v0", lambda **_: Noisy(BOX, BOX))
    try:
        save(make_model(), tmp_path)
        exported = run_cli("export", tmp_path, "--env", "Noisy-v0", "--seconds", 0)
    finally:
        del gymnasium.registry["Noisy-v0"]
    assert exported.code == 0, exported.error
    assert "open returns: undecided, more episodes are needed" in exported.output
    assert "certificate: the same policy" in exported.output
    assert "returns: undecided" in run_cli("inspect", tmp_path).output
    assert "returns: open; undecided" in (tmp_path / "README.md").read_text()
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    assert certificate["verdict"] == "pass"
    assert [each["passed"] for each in certificate["checks"] if each["name"] == "returns"] == [None]


class Counting(SpaceEnv):
    """Observes the number of steps; an episode has a hundred."""

    def __init__(self) -> None:
        super().__init__(spaces.Box(0.0, 100.0, (1,)), spaces.Discrete(2))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        super().step(action)
        return np.full(1, self._steps, np.float32), 1.0, False, self._steps == 100, {}


def test_observations_are_kept_from_whole_episodes() -> None:
    gymnasium.register("Counting-v0", lambda **_: Counting())
    try:
        played = play(
            Environment("Counting-v0"), lambda rows, _: (np.zeros(len(rows)), None), (0, 1), keep=10
        )
    finally:
        del gymnasium.registry["Counting-v0"]
    kept = [rows for rows, _ in played.observations if isinstance(rows, np.ndarray)]
    steps = np.array([rows[0, 0] for rows in kept])
    assert 10 <= 2 * len(steps) <= 20
    (spacing,) = set(np.diff(steps))
    assert steps[0] == 0
    assert steps[-1] + spacing >= 100
