"""Nested lists become the array of the same numbers; all else is refused in little memory."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trpo_deploy.spec.nested_lists import NestedListError, array_from_lists

DTYPES = [*"bBhHiIqQfd", "e", "?"]


@pytest.mark.parametrize("code", DTYPES)
@settings(deadline=None)  # other work on the machine may delay an example
@given(data=st.data())
def test_the_array_of_an_arrays_lists_is_that_array(code: str, data: st.DataObject) -> None:
    dtype = np.dtype(code)
    shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
    array = data.draw(hnp.arrays(dtype, shapes))
    lists = array.tolist()
    # Lists cannot tell the sizes after an empty axis.
    shape = np.asarray(lists).shape
    for same in (lists, as_tuples(lists)):
        got = array_from_lists(same, dtype, booleans=code == "?")
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, array.reshape(shape))


def as_tuples(value: Any) -> Any:
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "code", "kind", "received"),
    [
        ([1, "2"], "f", "dtype", "text"),
        ([["1"], ["2"]], "f", "dtype", "text"),
        ("1", "f", "dtype", "text"),
        ([1, None], "f", "dtype", "null"),
        (None, "f", "dtype", "null"),
        ([{}, None, 1], "f", "dtype", "an object and null"),
        ({"a": 1}, "f", "dtype", "an object"),
        ([True, 1.0], "f", "dtype", "true or false"),
        (True, "q", "dtype", "true or false"),
        ([1.0, 2], "q", "dtype", "floating-point numbers"),
        ([1.0, 0], "B", "dtype", "floating-point numbers"),
        ([1.0, 0], "?", "dtype", "floating-point numbers"),
        ([256, 0], "B", "out_of_range", "0 to 256"),
        ([-1, 0], "B", "out_of_range", "-1 to 0"),
        ([2**63, -1], "q", "out_of_range", "-1 to 9223372036854775808"),
        ([10**5000], "q", "out_of_range", "an integer of 16610 bits"),
        ([10**5000, 1], "f", "out_of_range", "1 to an integer of 16610 bits"),
        ([300, 0], "?", "out_of_range", "0 to 300"),
        ([1, [2]], "f", "ragged", "uneven"),
        ([[1], 2], "f", "ragged", "uneven"),
        ([[1, 2], [3]], "f", "ragged", "uneven"),
        ([[], [1]], "f", "ragged", "uneven"),
        ([[[1]], [2]], "f", "ragged", "uneven"),
        ([np.zeros(2), np.zeros(3)], "f", "ragged", "uneven"),
        (nested(33), "f", "shape", "more than 32"),
        (nested(1000), "f", "shape", "more than 32"),
        (cycle(), "f", "shape", "more than 32"),
    ],
)
def test_other_values_are_refused(value: Any, code: str, kind: str, received: str) -> None:
    with pytest.raises(NestedListError) as caught:
        array_from_lists(value, np.dtype(code))
    assert caught.value.kind == kind
    assert received in caught.value.received


def test_booleans_are_numbers_where_asked_for() -> None:
    got = array_from_lists([[True, 0], [1, False]], np.dtype("int8"), booleans=True)
    np.testing.assert_array_equal(got, [[1, 0], [1, 0]])


def test_numpys_numbers_and_arrays_in_lists_are_accepted() -> None:
    for value in ([np.float32(1), 2.0], [np.array([1, 2]), np.array([3, 4])]):
        np.testing.assert_array_equal(array_from_lists(value, np.dtype("f")), value)


def test_a_float_beyond_float32_becomes_infinite() -> None:
    got = array_from_lists([1e39, -1e39, 65504 * 2], np.dtype("f"))
    np.testing.assert_array_equal(got, [np.inf, -np.inf, 131008])


@pytest.mark.parametrize(
    "value",
    [
        [0] * 10_000 + ["x" * 10_000],  # 400 MB as a numpy array of text
        [[], *([] for _ in range(100_000))],
        [[0] * 10_000] * 100 + [["x" * 10_000] * 10_000],
        [{}] * 100_000,
        [[[[[]]]]] * 100_000,
    ],
)
def test_refusals_take_no_more_memory_than_a_few_pointers_an_item(value: Any) -> None:
    tracemalloc.start()
    with suppress(NestedListError):
        assert array_from_lists(value, np.dtype("f")).size == 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (
        peak < 50_000_000
    )  # the largest value has a million items of 8 bytes, copied when it grows
