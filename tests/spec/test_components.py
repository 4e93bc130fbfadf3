"""The components of a spec survive the file, fit its spaces, and cannot be anything else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.spec.test_policy_spec import SPACES, spec_of
from trpo_deploy.errors import PolicyFileError
from trpo_deploy.spec.component_table import component_tables, period_text
from trpo_deploy.spec.components import (
    Component,
    checked_action,
    checked_period,
    periods_differ,
)
from trpo_deploy.spec.policy_spec import OBS, GuardInfo, NormalizerInfo, PolicySpec
from trpo_deploy.spec.spaces import (
    BoxSpace,
    DictSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
    Space,
    bounds,
)

BOX = BoxSpace(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32))
NAMES = (Component("hip", "rad"), Component("höhe \"|'", None))


def named(**changes: Any) -> PolicySpec:
    values: dict[str, Any] = {
        "action_space": BoxSpace(np.array([-1, 0], np.float32), np.array([0.3, 1], np.float32)),
        "observation_components": {OBS: NAMES},
        "action_components": (Component("knee", "150 N m"), Component("foot")),
        "period": 1 / 3,
        "safe_action": np.array([0.1, 0.2], np.float32),
        "normalizer": NormalizerInfo(
            10.0, 1e-8, (OBS,), 0.1, {OBS: np.array([1 / 3, 1e-300])}, {OBS: np.array([0.1, 0.1])}
        ),
    }
    return spec_of(BOX, **{**values, **changes})


def test_json_keeps_everything() -> None:
    spec = named()
    read = PolicySpec.from_json(spec.to_json())
    assert read.to_json() == spec.to_json()
    assert read.observation_components == {OBS: NAMES}
    assert read.action_components == spec.action_components
    assert read.period == spec.period
    assert read.safe_action is not None
    assert read.safe_action.dtype == np.float32
    np.testing.assert_array_equal(read.safe_action, np.array([0.1, 0.2], np.float32))
    assert read.normalizer is not None
    for name in ("mean", "std"):
        (numbers,) = getattr(read.normalizer, name).values()
        assert numbers.dtype == np.float64
        (expected,) = getattr(spec.normalizer, name).values()
        np.testing.assert_array_equal(numbers, expected)


def test_what_is_unknown_is_not_in_the_json() -> None:
    value = json.loads(spec_of(BOX).to_json())
    assert not value.keys() & {
        "observation_components",
        "action_components",
        "period",
        "safe_action",
    }
    assert value["normalizer"].keys() == {"clip_obs", "epsilon", "keys", "smallest_std"}
    read = PolicySpec.from_json(json.dumps(value))
    assert read.control.to_json() == {}


def test_the_safe_action_of_an_older_file_is_its_guards() -> None:
    guard = GuardInfo("obs_ok", np.array([0, 0], np.float32))
    value = json.loads(named(guard=guard, safe_action=None).to_json())
    assert "safe_action" not in value
    safe = PolicySpec.from_json(json.dumps(value)).safe_action
    assert safe is not None
    assert safe.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("period", 0),
        ("period", -0.1),
        ("period", True),
        ("period", "0.1"),
        ("period", [0.1]),
        ("safe_action", [0.0]),
        ("safe_action", [0.0, 5.0]),
        ("safe_action", [[0.0, 0.0]]),
        ("safe_action", "none"),
        ("safe_action", None),
        ("action_components", {"names": ["a"], "units": [None]}),
        ("action_components", {"names": ["a", "a"], "units": [None, None]}),
        ("action_components", {"names": ["a", "b"], "units": [None]}),
        ("action_components", {"names": ["a", "b"]}),
        ("action_components", ["a", "b"]),
        ("action_components", {"names": ["a", 2], "units": [None, None]}),
        ("action_components", {"names": ["a", ""], "units": [None, None]}),
        ("action_components", {"names": ["a", "b\u2028c"], "units": [None, None]}),
        ("action_components", {"names": ["a", "\x1b[31m"], "units": [None, None]}),
        ("action_components", {"names": ["a", "b" * 201], "units": [None, None]}),
        ("action_components", {"names": ["a", "b"], "units": [None, ""]}),
        ("observation_components", {"other": {"names": ["a", "b"], "units": [None, None]}}),
        ("observation_components", {OBS: {"names": ["a"], "units": [None]}}),
        ("observation_components", [1]),
    ],
)
def test_a_spec_with_a_wrong_entry_is_refused(key: str, value: Any) -> None:
    spec = json.loads(named().to_json())
    spec[key] = value
    if value is None:  # as if it were absent
        assert PolicySpec.from_json(json.dumps(spec)).safe_action is None
        return
    with pytest.raises(PolicyFileError):
        PolicySpec.from_json(json.dumps(spec))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bound", [0.1, 0.2, 0.3, 0.7, 1e-3])
def test_a_bound_as_it_is_written_is_a_safe_action_in_the_space(dtype: Any, bound: float) -> None:
    """The nearest float32 of 0.2 is above the float64 0.2, and that of 0.7 is below."""
    space = BoxSpace(np.array([-bound], dtype), np.array([bound], dtype))
    for written in (-bound, bound):
        action = checked_action([written], space)
        assert action.dtype == np.float32
        assert space.low <= action <= space.high
        with pytest.raises(ValueError, match="the safe action contains"):
            checked_action([written * (1 + 1e-6)], space)


def test_a_safe_action_is_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        checked_action([np.nan, 0.0], BOX)
    with pytest.raises(ValueError, match="finite"):
        checked_action([0.0, np.inf], BOX)


@pytest.mark.parametrize(
    ("space", "good", "bad"),
    [
        (DiscreteSpace(3, start=5), 7, 8),
        (MultiDiscreteSpace(np.array([2, 5]), np.array([0, 3])), [1, 7], [2, 3]),
        (MultiBinarySpace((2,)), [1, 0], [2, 0]),
    ],
    ids=lambda each: getattr(each, "kind", None),
)
def test_a_safe_action_of_whole_numbers(space: Space, good: Any, bad: Any) -> None:
    action = checked_action(good, space)
    assert (action.dtype, action.shape) == (space.dtype, space.shape)
    with pytest.raises(ValueError, match="safe action"):
        checked_action(bad, space)


@pytest.mark.parametrize("number", [1, 0.5, np.float32(0.5), np.int64(2)])
def test_a_period_is_any_positive_number(number: Any) -> None:
    assert checked_period(number) == float(number)
    assert type(checked_period(number)) is float


@pytest.mark.parametrize("number", [0, -1, 10**400, float("nan"), True, np.bool_(True), None, "1"])
def test_other_periods_are_refused(number: Any) -> None:
    with pytest.raises(ValueError, match="expected a positive number of seconds"):
        checked_period(number)


def test_bounds_are_those_that_samples_keep() -> None:
    rng = np.random.default_rng(0)
    for space in SPACES.values():
        low, high = bounds(space)
        for _ in range(50):
            sample = space.sample(rng).flatten()
            assert (sample >= low).all()
            assert (sample <= high).all()


def test_policy_json_has_the_spec_and_the_files() -> None:
    spec = named()
    value = json.loads(spec.policy_json("walker", {"policy.c": "ab" * 32}))
    assert list(value) == ["name", "target", "files", "spec"]
    assert value["name"] == "walker"
    assert value["files"] == {"policy.c": "ab" * 32}
    assert value["spec"] == json.loads(spec.to_json())
    assert value["target"] == "onnx"


def test_the_table_has_a_row_for_each_number() -> None:
    observation, action = component_tables(named())
    assert observation.columns == ("", "name", "unit", "low", "high", "mean", "std")
    assert observation.rows[0] == ("0", "hip", "rad", "-1", "1", "0.3333", "0.1")
    assert observation.rows[1][3:5] == ("-inf", "inf")
    assert action.columns == ("", "name", "unit", "low", "high")
    assert [row[1] for row in action.rows] == ["knee", "foot"]
    assert period_text(named()) == "0.333333 s (3 Hz)"


def test_the_table_of_discrete_actions_has_their_values() -> None:
    names = tuple(Component(each) for each in ("left", "right"))
    spec = named(action_space=DiscreteSpace(2, start=3), action_components=names, safe_action=None)
    *_, action = component_tables(spec)
    assert action.rows == (("3", "left"), ("4", "right"))


def test_an_array_about_which_nothing_is_known_has_no_table() -> None:
    image = SPACES["image"]
    spec = replace(named(), observation_space=DictSpace({"image": image, OBS: BOX}))
    assert [table.title for table in component_tables(spec)] == ["observation obs", "action"]


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        (0.3, 0.1 + 0.2, False),  # a time step times a frame skip
        (1 / 60, 0.01667, True),
        (0.008, 0.01, True),
        (0.008, None, False),
        (None, None, False),
    ],
)
def test_periods_differ_by_more_than_rounding(
    one: float | None, other: float | None, differ: bool
) -> None:
    assert periods_differ(one, other) is differ
    assert periods_differ(other, one) is differ
