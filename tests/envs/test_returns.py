"""Returns are shown with the digits that they need, and endless episodes with a hint."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.train.registration import register
from trpo_deploy.envs import episode
from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import RewardMeter, play
from trpo_deploy.envs.returns import cut_episodes, return_digits


@pytest.mark.parametrize(
    ("returns", "digits"),
    [
        ((-104.6, 13.5), ".1f"),
        ((99.96, 3.0), ".1f"),
        ((-4.62, 1.2), ".2f"),
        ((0.97, 0.1), ".3f"),
        ((0.0312, 0.001), ".4f"),
        ((1.0, 0.0), ".2f"),
        ((1e-30, 0.0), ".9f"),
        ((0.0, 0.0), ".1f"),
        ((math.inf, 0.0), ".1f"),
        ((1e6, 2.0), ".1f"),
    ],
)
def test_the_largest_return_has_three_digits(returns: tuple[float, ...], digits: str) -> None:
    assert return_digits(*returns) == digits


class Endless(gymnasium.Env[Any, Any]):
    """Ends only if its seed is odd."""

    observation_space, action_space = (
        gymnasium.spaces.Box(-1, 1, (1,)),
        gymnasium.spaces.Discrete(2),
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed, options=options)
        self.ends = bool(seed and seed % 2)
        return np.zeros(1, np.float32), {}

    def step(self, _: Any) -> Any:
        return np.zeros(1, np.float32), 1.0, self.ends, False, {}


register("EndlessReturns-v0", Endless)


def test_episodes_that_do_not_end_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode, "MAX_EPISODE_STEPS", 30)
    played = play(
        Environment("EndlessReturns-v0"),
        lambda observations, _: (np.zeros(len(observations), np.int64), None),
        range(3),
    )
    assert played.cut == 2
    assert played.returns.tolist() == [30.0, 1.0, 30.0]


def test_the_note_says_what_to_do() -> None:
    note = cut_episodes("CliffWalking-v1", 2, 3)
    assert "2 of 3 episodes of CliffWalking-v1" in note
    assert "--env-arg max_episode_steps=N" in note
    assert cut_episodes("CliffWalking-v1", 0, 3) == ""


def test_rewards_are_those_inside_of_the_wrappers() -> None:
    wrapped = Environment(
        "EndlessReturns-v0",
        env_wrapper={"gymnasium.wrappers.ClipReward": {"min_reward": 0.0, "max_reward": 0.1}},
    )
    with wrapped.opened(RewardMeter) as env:
        played = episode.Episode(wrapped, env, 1)
        played.step(np.zeros((), np.int64))
    assert played.total == 1.0
