"""Scaled returns are independent of the rewards' scale and of the critic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.train.environments import RandomEnv
from trpo_deploy import TRPO
from trpo_deploy.train.algorithm.return_scale import NO_RETURNS, deviation, with_returns


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_scaled_returns_are_of_order_one_for_any_reward_scale(scale: float) -> None:
    class Scaled(RandomEnv):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, reward, terminated, truncated, info = super().step(action)
            return observation, scale * (reward + 5), terminated, truncated, info

    env = DummyVecEnv([lambda: Monitor(Scaled(spaces.Discrete(3)))] * 2)
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, scale_returns=True)
    model.learn(6 * 128)
    assert 0.2 < model.rollout_buffer.returns.std() < 5
    # Episode statistics keep the environment's unit.
    assert np.mean([episode["r"] for episode in model.ep_info_buffer or ()]) > 20 * scale


@pytest.mark.parametrize("ends", ["by itself", "at a time limit"])
def test_the_return_scale_is_independent_of_the_critic(ends: str) -> None:
    """Otherwise a critic that learns too fast would inflate its own scale."""

    class Constant(RandomEnv):
        def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            self.steps += 1
            end, limit = self.steps >= self.length, ends == "at a time limit"
            return self.observation_space.sample(), 10.0, end and not limit, end and limit, {}

    env = DummyVecEnv([lambda: Constant(spaces.Discrete(3))] * 2)
    model = TRPO("MlpPolicy", env, 1e-2, n_steps=128, batch_size=64, seed=0, scale_returns=True)
    model.learn(12 * 256)
    sums = 10 * np.cumsum(0.99 ** np.arange(20))
    # Rollouts end within episodes, so not every step of an episode is seen equally often.
    assert deviation(model.return_moments) == pytest.approx(sums.std(), rel=0.02)


def test_the_running_deviation_equals_that_of_all_returns() -> None:
    moments = NO_RETURNS
    assert deviation(moments) == 1.0
    returns = np.random.default_rng(0).normal(3, 7, size=(10, 100))
    for part in returns:
        moments = with_returns(moments, part)
    # RunningMeanStd starts with a count of 1e-4 at zero mean and unit variance.
    assert deviation(moments) == pytest.approx(returns.std(), rel=1e-4)


def test_moments_of_large_returns_are_finite() -> None:
    large = np.full(4096, 1e18, np.float32) * np.resize([1, -1], 4096).astype(np.float32)
    assert with_returns(NO_RETURNS, large)["var"] == pytest.approx(1e36, rel=1e-3)
