"""``trpo-deploy demo``: the served policy takes the trained policy's actions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command import run_cli
from trpo_deploy.cli.demo import PlayedEpisode, check_equal_actions, play
from trpo_deploy.errors import CertificateError


@pytest.mark.slow
def test_the_served_episodes_are_those_of_the_last_evaluation(tmp_path: Path) -> None:
    run = run_cli("demo", "-o", tmp_path / "demo")
    assert run.code == 0, run.error
    returns = re.findall(r"return (?:in training|over HTTP) +│ +(.+ ± \S+)", run.output)
    assert len(returns) == 2
    assert returns[0] == returns[1]
    assert "every action equal: 10 episodes" in run.output
    assert "the same policy" in run.output
    assert "try next" in run.output
    assert (tmp_path / "demo" / "certificate.json").is_file()


def test_a_different_action_is_an_error_that_names_seed_and_step() -> None:
    expected = [PlayedEpisode(7, [0, 1, 1], 3.0), PlayedEpisode(8, [0, 1, 1, 0], 4.0)]
    served = [PlayedEpisode(7, [0, 1, 1], 3.0), PlayedEpisode(8, [0, 1, 0], 3.0)]
    check_equal_actions(expected, expected)
    with pytest.raises(CertificateError, match=r"seed 8, step 2: .* takes action 1, .* answered 0"):
        check_equal_actions(expected, served)


def test_play_gives_the_same_episodes_for_the_same_seeds() -> None:
    episodes = play(lambda observation: int(observation[2] > 0), [3, 4])
    assert [episode.seed for episode in episodes] == [3, 4]
    for episode in episodes:  # CartPole's reward is 1 per step
        assert episode.total == len(episode.actions)
    assert episodes == play(lambda observation: int(observation[2] > 0), [3, 4])
