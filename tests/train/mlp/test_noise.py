"""Noise drawn for a whole rollout equals the draws of torch's distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Categorical

from trpo_deploy.train.mlp.noise import categorical_draw, normal_noise


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 3), (2, 8), (3, 7)], ids=str)
def test_normal_noise_equals_one_draw_for_each_step(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    expected = [torch.empty(shape).normal_() for _ in range(50)] + [torch.randn(1)]
    torch.manual_seed(1)
    found = normal_noise(50, shape)
    np.testing.assert_array_equal(found, torch.stack(expected[:-1]).numpy())
    assert torch.randn(1) == expected[-1]  # the generator is in the same state


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e7])
def test_categorical_draws_equal_torchs_for_any_offset_of_the_logits(offset: float) -> None:
    logits = np.tile(np.array([0, 2, 1, -1], np.float32) + np.float32(offset), (100_000, 1))
    torch.manual_seed(0)
    ours = categorical_draw(1, len(logits), [4])(0, logits)[:, 0]
    torch.manual_seed(0)
    distribution: Any = Categorical(logits=torch.from_numpy(logits))
    torchs = distribution.sample().numpy()
    # A few pairs of clocks ring at the same time in float32.
    assert np.count_nonzero(ours != torchs) <= 5
