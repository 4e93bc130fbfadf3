"""Learning curves show only returns that the environment can give."""

from __future__ import annotations

import numpy as np
import pytest

from trpo_deploy.train.run.plots import band


@pytest.mark.parametrize("axis", [0, 1])
def test_the_band_ends_at_the_extreme_returns(axis: int) -> None:
    # CartPole's returns end at 500. Mean ± std would be 360 to 539, 498 to 502, and 9 to 11.
    rows = np.array([[500.0, 500.0, 349.0], [500.0, 500.0, 497.0], [9.0, 10.0, 11.0]])
    low, high = band(rows if axis == 1 else rows.T, axis=axis)
    mean, std = rows.mean(axis=1), rows.std(axis=1)
    assert high.tolist() == [500.0, 500.0, pytest.approx(10 + std[2])]
    np.testing.assert_allclose(low, mean - std)
    assert (low <= mean).all()
    assert (mean <= high).all()


def test_the_band_of_one_return_is_that_return() -> None:
    low, high = band(np.array([[3.0], [4.0]]), axis=1)
    assert low.tolist() == high.tolist() == [3.0, 4.0]
