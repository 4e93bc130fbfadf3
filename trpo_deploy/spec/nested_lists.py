"""Nested lists of numbers, as JSON has them, as arrays.

numpy would also accept text, null and objects. One long text makes it take as much memory for
every element of the list, so the types are checked first.
"""

from __future__ import annotations

from array import array as c_array
from operator import countOf
from typing import Any

import numpy as np

from trpo_deploy.spec.codec import Array

PLAIN_TYPES = frozenset({list, tuple, dict, str, bool, type(None)})
"""The types of JSON values other than numbers, and tuples."""

_LISTS = frozenset({list, tuple})
_NUMBERS = frozenset({int, float})
_TEXTS = {str: "text", dict: "an object", type(None): "null", bool: "true or false"}
_MAX_DEPTH = 32
"""Maximum number of axes in every version of numpy."""


class NestedListError(ValueError):
    """The value is not an array of numbers.

    Attributes:
        kind: ``ragged``, ``dtype``, ``shape`` or ``out_of_range``, as in ``ObservationError``.
        received: What was received, as text.
    """

    def __init__(self, kind: str, received: str) -> None:
        super().__init__(f"received {received}")
        self.kind = kind
        self.received = received


def array_from_lists(value: object, dtype: np.dtype[Any], *, booleans: bool = False) -> Array:
    """Convert nested lists of numbers of equal length.

    Args:
        value: A value of one of :data:`PLAIN_TYPES`; most of them are refused.
        dtype: Dtype of the array. An integer dtype accepts integers only.
        booleans: Whether ``True`` and ``False`` are numbers.

    Returns:
        An array of ``dtype``. Lists that contain arrays or numpy's numbers have the dtype that
        numpy gives them.

    Raises:
        NestedListError: The lists are uneven, contain other values than numbers, or an integer
            that ``dtype`` cannot represent. The type is checked before any memory is taken.
    """
    shape, items, types = _flatten(value)
    if not types <= _NUMBERS:
        wrong = types - _NUMBERS
        if booleans:
            wrong -= {bool}
        if not wrong <= PLAIN_TYPES:
            return _with_numpy_parts(value)
        if wrong & _LISTS:
            raise NestedListError("ragged", "an uneven nested list")
        if wrong:
            raise NestedListError("dtype", " and ".join(sorted(_TEXTS[each] for each in wrong)))
    flat = _convert(items, dtype) if items else np.empty(0, dtype)
    return flat if len(shape) == 1 else flat.reshape(shape)


def _flatten(value: object) -> tuple[list[int], Any, set[type]]:
    """The lengths of the lists at each level, the innermost items, and the items' types."""
    items: Any = [value]
    shape = []
    if isinstance(value, list):
        items = value
        shape.append(len(value))
    while True:
        types = _types(items)
        if not types or not types <= _LISTS:
            return shape, items, types
        size = len(items[0])
        if countOf(map(len, items), size) != len(items):
            raise NestedListError("ragged", "an uneven nested list")
        if len(shape) == _MAX_DEPTH:
            raise NestedListError("shape", f"more than {_MAX_DEPTH} nested lists")
        shape.append(size)
        lists, items = items, []
        for each in lists:  # half the time of itertools.chain
            items += each


def _types(items: Any) -> set[type]:
    """The types of the items; counting is faster than a set where all have the same."""
    if items and countOf(map(type, items), type(items[0])) == len(items):
        return {type(items[0])}
    return set(map(type, items))


def _convert(items: Any, dtype: np.dtype[Any]) -> Array:
    """Convert items that are integers, floats or booleans."""
    # array.array has numpy's type codes, takes less time than numpy, and refuses floats for an
    # integer type. A float beyond float32 becomes infinite.
    code = {"?": "B", "e": "d"}.get(dtype.char, dtype.char)
    try:
        # An image is several times faster as a bytearray.
        numbers = np.frombuffer(bytearray(items) if code == "B" else c_array(code, items), code)
    except TypeError:
        raise NestedListError("dtype", "floating-point numbers") from None
    except (OverflowError, ValueError):
        received = f"{_short(min(items))} to {_short(max(items))}"
        raise NestedListError("out_of_range", received) from None
    if code == dtype.char:
        return numbers
    if dtype.char == "?":
        return numbers.view(dtype)
    with np.errstate(over="ignore"):
        return numbers.astype(dtype)


def _with_numpy_parts(value: object) -> Array:
    try:
        return np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise NestedListError("ragged", "an uneven nested list") from error


def _short(number: float) -> str:
    """A number as text; Python refuses to print integers of thousands of digits."""
    if isinstance(number, int) and number.bit_length() > 64:
        return f"an integer of {number.bit_length()} bits"
    return str(number)
