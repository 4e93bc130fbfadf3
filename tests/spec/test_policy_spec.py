"""The spec keeps every number and accepts exactly the legal observations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trpo_deploy.errors import ObservationError, PolicyFileError
from trpo_deploy.spec.environment import EnvironmentSpec
from trpo_deploy.spec.policy_spec import NormalizerInfo, PolicySpec, TensorSpec
from trpo_deploy.spec.spaces import (
    Array,
    BoxSpace,
    DictSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
    Space,
)

SPACES: dict[str, Space] = {
    "box": BoxSpace(np.array([-1, -np.inf, 0.1], "f4"), np.array([1, np.inf, 3.3], "f4")),
    "box of float64": BoxSpace(np.array([[0.1, -1e300]]), np.array([[0.2, 1e300]])),
    "image": BoxSpace(np.zeros((4, 5, 3), np.uint8), np.full((4, 5, 3), 255, np.uint8)),
    "box of bool": BoxSpace(np.zeros((2, 3), bool), np.ones((2, 3), bool)),
    "one bool": BoxSpace(np.array(False), np.array(True)),
    "discrete": DiscreteSpace(4, start=-2),
    "multi discrete": MultiDiscreteSpace(np.array([2, 5]), np.array([0, 3])),
    "multi binary": MultiBinarySpace((2, 3)),
}


def spec_of(observation_space: Space | DictSpace, **changes: Any) -> PolicySpec:
    values: dict[str, Any] = {
        "observation_space": observation_space,
        "action_space": DiscreteSpace(3),
        "outputs": (TensorSpec("action", "int64", ()),),
        "algorithm": "TRPO",
        "environment": EnvironmentSpec("CartPole-v1"),
        "normalizer": NormalizerInfo(float("inf"), 1e-8, ("obs",), 0.1),
        "preprocessing": ("normalise",),
        "training": {"return_mean": 1 / 3},
    }
    return PolicySpec(**{**values, **changes})


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_json_keeps_the_space(space: Space) -> None:
    spec = spec_of(DictSpace({"a": space, "b": SPACES["box"]}), action_space=space)
    text = spec.to_json()
    read = PolicySpec.from_json(text)
    assert read.to_json() == text
    assert read.action_space.dtype == space.dtype
    assert read.action_space.shape == space.shape


@given(hnp.arrays(np.float32, (3,), elements=st.floats(allow_nan=False, width=32)))
@example(-np.zeros(3, np.float32))
@example(np.array([0.0, -0.0, 0.0], np.float32))
def test_json_keeps_every_bit_of_the_bounds(low: Array) -> None:
    space = BoxSpace(low, np.full(3, np.inf, np.float32))
    read = PolicySpec.from_json(spec_of(space).to_json()).observation_space
    assert isinstance(read, BoxSpace)
    assert read.low.dtype == low.dtype
    assert read.low.tobytes() == low.tobytes()


def test_infinities_are_text_and_an_image_stays_small() -> None:
    text = spec_of(DictSpace({"x": SPACES["box"], "image": SPACES["image"]})).to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert '"-inf"' in text
    assert len(text) < 2000


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_samples_are_legal_single_and_batched(space: Space) -> None:
    rng = np.random.default_rng(0)
    spec = spec_of(space)
    samples = [space.sample(rng) for _ in range(20)]
    for sample in samples:
        assert sample.dtype == space.dtype
        inputs, batched = spec.validate(sample)
        assert not batched
        assert inputs["obs"].shape == (1, *space.shape)
        if isinstance(space, BoxSpace):
            # Rounding to float32 may step over a float64 bound by half an ulp.
            assert (sample >= space.low - np.abs(space.low) * 1e-7).all()
            assert (sample <= space.high + np.abs(space.high) * 1e-7).all()
    inputs, batched = spec.validate(np.stack(samples))
    assert batched
    assert inputs["obs"].shape == (20, *space.shape)
    again, _ = spec.validate(np.stack(samples).tolist())
    np.testing.assert_array_equal(again["obs"], inputs["obs"])


@pytest.mark.parametrize(
    ("space", "value", "says"),
    [
        ("box", [1, 2], "shape (2,)"),
        ("box", [[[1, 2, 3]]], "shape (1, 1, 3)"),
        ("box", [1, 2, float("nan")], "nan"),
        ("box", [1, 2, float("-inf")], "-inf"),
        ("box", [1, 2, 1e300], "inf"),
        ("box", [1, 2, "three"], "text"),
        ("box", [1, 2, None], "null"),
        ("box", [1, 2, True], "true or false"),
        ("box", [1, [2], 3], "uneven"),
        ("box", {"obs": [1, 2, 3]}, "keys"),
        ("image", np.full((4, 5, 3), 256), "256"),
        ("image", np.full((4, 5, 3), -1), "-1"),
        ("image", np.zeros((4, 5, 3), np.float32), "float32"),
        ("box of bool", [[0, 1, 2], [0, 0, 0]], "2"),
        ("box of bool", [[0, 1, -1], [0, 0, 0]], "-1"),
        ("box of bool", np.zeros((2, 3)), "float64"),
        ("box of bool", np.frombuffer(bytes([0, 1, 2, 0, 0, 0]), bool).reshape(2, 3), "2"),
        ("discrete", 2, "2"),
        ("discrete", 1.0, "float64"),
        ("multi discrete", [1, 2], "2"),
        ("multi binary", [[0, 1, 2], [0, 0, 0]], "2"),
    ],
)
def test_the_error_describes_the_illegal_observation(space: str, value: Any, says: str) -> None:
    with pytest.raises(ObservationError) as caught:
        spec_of(SPACES[space]).validate(value)
    assert caught.value.field == "obs"
    assert says in str(caught.value)
    assert caught.value.expected


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"a": [0, 0, 1]}, "b"),
        ({"a": [0, 0, 1], "b": 0, "c": 1}, "c"),
        ([0, 0, 1], "a"),
        ({"a": [0, 0, 1], "b": 9}, "b"),
        ({"a": [[0, 0, 1]], "b": 0}, "a"),
        ({"a": [[0, 0, 1]] * 2, "b": [0] * 3}, "a"),
    ],
)
def test_the_error_names_the_wrong_key(value: Any, field: str) -> None:
    spec = spec_of(DictSpace({"a": SPACES["box"], "b": SPACES["discrete"]}))
    with pytest.raises(ObservationError) as caught:
        spec.validate(value)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("line", "squashed"),
    [
        ("action: tanh of the Gaussian's mean, scaled to the action bounds", True),
        ("action: mean of the Gaussian, clipped to the action bounds", False),
    ],
)
def test_a_file_of_version_0_1_tells_in_its_preprocessing_that_it_squashes(
    line: str, squashed: bool
) -> None:
    value = json.loads(spec_of(SPACES["box"], preprocessing=(line,)).to_json())
    del value["squashed"]
    assert PolicySpec.from_json(json.dumps(value)).squashed is squashed


def test_inner_bounds_lie_within_the_bounds() -> None:
    for space in SPACES.values():
        if isinstance(space, BoxSpace):
            low, high = space.inner_bounds
            assert low.dtype == high.dtype == space.dtype
            assert (low >= space.low).all()
            assert (high <= space.high).all()


def test_a_newer_format_version_is_refused() -> None:
    newer = json.loads(spec_of(SPACES["box"]).to_json()) | {"format_version": 3}
    with pytest.raises(PolicyFileError, match="format version 3, expected 1 or 2"):
        PolicySpec.from_json(json.dumps(newer))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format_version": 1}', '{"format_version": 2}', "null"]
)
def test_text_that_is_not_a_spec_is_refused(text: str) -> None:
    with pytest.raises(PolicyFileError, match="cannot be read"):
        PolicySpec.from_json(text)
