"""Learning curves show only returns that the environment can give."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.run.plots import band, benchmark_curves, learning_curve


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written as images."""
    figures: list[Figure] = []

    def keep(figure: Figure, *_: object, **__: object) -> None:
        figure.draw_without_rendering()
        figures.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_the_axis_of_both_pictures_starts_at_step_0(drawn: list[Figure]) -> None:
    timesteps = np.array([200_000, 1_000_000])
    learning_curve("Hopper-v5", timesteps, np.array([[1.0, 2.0], [3.0, 4.0]]))
    benchmark_curves([("Hopper-v5", timesteps, np.array([[1.0, 2.0], [3.0, 4.0]]))])
    for figure in drawn:
        [axes] = figure.axes
        assert axes.get_xlim()[0] == 0
        labels = [label.get_text() for label in axes.get_xticklabels()]
        assert labels[0] == "0"
        assert {"200k", "1M"} <= set(labels)


@pytest.mark.parametrize(
    ("returns", "best"),
    [
        ([[19.0], [5.0]], "19.0"),
        ([[5.0], [19.0]], "19.0"),
        ([[19.0]], "19.0"),
        ([[0.02], [0.0312]], "0.0312"),
    ],
)
def test_the_best_return_is_written_within_the_axes(
    returns: list[list[float]], best: str, drawn: list[Figure]
) -> None:
    timesteps: Array = np.array([0, 5_000][: len(returns)])
    learning_curve("CartPole-v1", timesteps, np.array(returns))
    [axes] = drawn[0].axes
    [text] = axes.texts
    assert text.get_text() == f"best {best}"
    assert text.get_window_extent().x0 >= axes.get_window_extent().x0
    assert text.get_window_extent().x1 <= axes.get_window_extent().x1


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
