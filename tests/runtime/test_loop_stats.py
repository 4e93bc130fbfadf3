"""The statistics of a loop are as exact as they say, and count what happens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.control_policy import write_linear_policy
from trpo_deploy.runtime import Controller, OnnxPolicy
from trpo_deploy.runtime.histogram import Histogram
from trpo_deploy.runtime.loop_stats import LoopStats

POLICY = json.loads(Path(__file__).with_name("controller_cases.json").read_text())["policy"]


@pytest.mark.parametrize("scale", [10, 1e3, 1e5, 1e9, 1e12])
def test_quantiles_are_within_the_stated_error(scale: float) -> None:
    durations = np.random.default_rng(0).exponential(scale, 5000).astype(int)
    histogram = Histogram()
    for duration in durations.tolist():
        histogram.add(duration)
    found = histogram.distribution()
    exact = np.quantile(durations, [0.5, 0.99, 0.999], method="inverted_cdf") / 1e9
    np.testing.assert_allclose([found.p50, found.p99, found.p99_9], exact, rtol=1 / 64)
    assert found.longest == durations.max() / 1e9
    assert found.count == 5000


@pytest.mark.parametrize("duration", [0, 1, 63, 64, 65, 127, 128, 2**44 - 1, 2**44, 2**70])
def test_one_duration_is_all_quantiles(duration: int) -> None:
    histogram = Histogram()
    histogram.add(duration)
    found = histogram.distribution()
    limit = min(duration, 2**44)  # longer ones count as this
    assert found.p50 == found.p99 == found.p99_9
    assert found.p50 == pytest.approx(limit / 1e9, rel=1 / 64)
    assert found.longest == duration / 1e9


def test_without_durations_everything_is_zero() -> None:
    found = Histogram().distribution()
    assert (found.count, found.p50, found.p99_9, found.longest) == (0, 0.0, 0.0, 0.0)


def test_jitter_is_the_distance_from_the_period() -> None:
    stats = LoopStats(0.125)
    for interval in (0.125, 0.125, 0.126, 0.124, 0.0):
        stats.add_interval(interval)
    found = stats.snapshot()
    assert found.mean_period == pytest.approx(0.1)
    assert found.jitter.p50 == pytest.approx(0.001, rel=1 / 64)
    assert found.jitter.longest == 0.125


def test_a_controller_counts_calls_periods_and_faults(tmp_path: Path) -> None:
    times = iter([0.0, 0.125, 0.25, 0.5, 7.0, 7.125])
    policy = OnnxPolicy(write_linear_policy(tmp_path / "policy.onnx", POLICY))
    controller = Controller(policy, period=0.125, clock=lambda: next(times))
    for value in (0.0, 0.0, np.nan, 0.0):
        controller.act([value, 0, 1])
    controller.reset()
    for _ in range(2):
        controller.act([0, 0, 1])
    stats = controller.stats
    assert stats.calls == stats.act.count == 6
    assert {cause: count for cause, count in stats.faults.items() if count} == {"not_finite": 1}
    assert stats.mean_period == (0.125 + 0.125 + 0.25 + 0.125) / 4  # not across the reset
    assert stats.jitter.count == 4
    assert stats.jitter.p50 == 0
    assert stats.jitter.longest == 0.125
    assert 0 < stats.act.p50 <= stats.act.p99_9 <= stats.act.longest
