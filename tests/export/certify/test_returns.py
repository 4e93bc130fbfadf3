"""The check of returns accepts chance and rejects another policy."""

from __future__ import annotations

import numpy as np

from trpo_deploy.export.certify.returns import check_returns
from trpo_deploy.spec.spaces import Array

EPISODES = 10


def _falling(rng: np.random.Generator, often: float, walk: float = 5000.0) -> Array:
    """Returns of a walker that sometimes falls, as Ant does."""
    falls = rng.random(EPISODES) < often
    return np.where(falls, rng.normal(700, 200, EPISODES), rng.normal(walk, 150, EPISODES))


def test_rare_falls_are_accepted() -> None:
    rng = np.random.default_rng(0)
    for often in (0.02, 0.06, 0.2, 0.4):
        passed = [
            bool(check_returns(*(_falling(rng, often) for _ in range(3)), discrete=False).passed)
            for _ in range(1000)
        ]
        # For ten draws, three standard errors are Student's t beyond 3: 1.5 %.
        assert np.mean(passed) >= 0.985, often


def test_another_policy_is_rejected() -> None:
    rng = np.random.default_rng(1)
    for often, walk in ((0.9, 5000.0), (0.0, 3000.0), (0.05, 2000.0)):
        found = [
            not check_returns(
                _falling(rng, 0.0), _falling(rng, often, walk), _falling(rng, 0.0), discrete=False
            ).passed
            for _ in range(200)
        ]
        assert np.mean(found) > 0.95, (often, walk)


def test_a_single_different_episode_is_rejected_if_noise_changes_nothing() -> None:
    same = np.full(EPISODES, 500.0)
    one_off = same.copy()
    one_off[3] = 400.0
    assert check_returns(same, same, same, discrete=True).passed
    assert not check_returns(same, one_off, same, discrete=True).passed
    assert not check_returns(same, one_off, same, discrete=False).passed
