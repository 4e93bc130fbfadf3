"""Numbers outside the bounds of a space are treated as the settings say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runtime.policy_files import OBSERVATION_SPACES, write_policy
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.models.stored import load_stored
from trpo_deploy.serve.settings import Settings

OUTSIDE = [[0, 0, 0], [0, 0, 2.5]]
CLIPPED = [[0, 0, 0], [0, 0, 2.0]]


@pytest.fixture
def model(tmp_path: Path) -> ServedModel:
    """A policy with observations of shape (2, 3) within -2 and 2."""
    file = write_policy(tmp_path / "policy.onnx", OBSERVATION_SPACES["bounded_box"])
    return load_stored(file.parent, "bounded", "1", str(file))


def test_numbers_outside_are_refused_by_default(model: ServedModel) -> None:
    with pytest.raises(RequestError) as caught:
        model.validate(OUTSIDE, Settings())
    assert caught.value.code == "observation_out_of_range"


def test_the_bounds_themselves_are_accepted(model: ServedModel) -> None:
    inputs, _ = model.validate([[2.0] * 3, [-2.0] * 3], Settings())
    np.testing.assert_array_equal(inputs["obs"], [[[2.0] * 3, [-2.0] * 3]])


def test_numbers_outside_can_be_clipped(model: ServedModel) -> None:
    inputs, _ = model.validate(OUTSIDE, Settings(out_of_bounds="clip"))
    np.testing.assert_array_equal(inputs["obs"], [CLIPPED])


def test_numbers_outside_can_be_accepted(model: ServedModel) -> None:
    inputs, _ = model.validate(OUTSIDE, Settings(out_of_bounds="accept"))
    np.testing.assert_array_equal(inputs["obs"], [OUTSIDE])
