"""Advantages of a whole rollout equal those of SB3's buffer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from trpo_deploy.train.mlp.advantages import generalized_advantages


@pytest.mark.parametrize("n_steps", [1, 2, 3, 8, 13, 200, 5000])
@pytest.mark.parametrize(("gamma", "gae_lambda"), [(0.99, 0.95), (1.0, 1.0), (0.9, 0.0)])
def test_advantages_equal_sb3s(n_steps: int, gamma: float, gae_lambda: float) -> None:
    space = spaces.Box(-1, 1, (1,))
    buffer = RolloutBuffer(n_steps, space, space, gamma=gamma, gae_lambda=gae_lambda, n_envs=3)
    random = np.random.default_rng(n_steps)
    buffer.rewards, buffer.values = random.normal(size=(2, n_steps, 3)).astype(np.float32)
    starts = random.random((n_steps + 1, 3)) < [0.0, 0.01, 0.1]
    buffer.episode_starts = starts[:-1].astype(np.float32)
    last = random.normal(size=(1, 3)).astype(np.float32)
    buffer.compute_returns_and_advantage(torch.from_numpy(last[0]), starts[-1])
    values = np.vstack([buffer.values, last])
    with np.errstate(all="raise"):  # as users set it to find the source of a NaN
        found = generalized_advantages(buffer.rewards, values, starts[1:], gamma, gae_lambda)
    # float32 sums of up to 5,000 terms in another order
    np.testing.assert_allclose(found, buffer.advantages, rtol=1e-5, atol=1e-4)
