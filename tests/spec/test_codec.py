"""JSON keeps every bit of numbers and arrays, and every plain value."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trpo_deploy.spec.codec import (
    Array,
    array_from_json,
    array_to_json,
    plain_from_json,
    plain_to_json,
)

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
FLOATS = st.floats(allow_nan=False, width=32)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(hnp.arrays(np.float32, SHAPES, elements=FLOATS))
@example(np.zeros(3, np.float32))
@example(-np.zeros((2, 2), np.float32))
@example(np.array([0.0, -0.0, 0.0], np.float32))
@example(np.full(3, -np.inf, np.float32))
def test_arrays_keep_every_bit(array: Array) -> None:
    text = json.dumps(array_to_json(array), allow_nan=False)
    read = array_from_json(json.loads(text), array.shape, array.dtype)
    assert read.dtype == array.dtype
    assert read.shape == array.shape
    assert read.tobytes() == array.tobytes()


@pytest.mark.parametrize("value", [0.0, -0.0, 0.1, math.inf, 255])
def test_a_constant_array_is_one_number(value: float) -> None:
    assert not isinstance(array_to_json(np.full((80, 80), value)), list)


@given(PLAIN)
def test_plain_values_come_back(value: Any) -> None:
    text = json.dumps(plain_to_json(value), allow_nan=False)
    assert repr(plain_from_json(json.loads(text))) == repr(value)


def test_infinities_come_back_and_text_stays_text() -> None:
    value = {"range": (0.7, math.inf), "low": -math.inf, "name": "inf"}
    text = json.dumps(plain_to_json(value), allow_nan=False)
    read = plain_from_json(json.loads(text))
    assert read == {"range": [0.7, math.inf], "low": -math.inf, "name": "inf"}


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, np.zeros(2), np.float32(1), {"__float__": "inf"}, [len], {1, 2}]
)
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="JSON cannot represent"):
        plain_to_json({"argument": value})
