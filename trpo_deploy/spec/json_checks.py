"""Checks of JSON values from a file: anyone may have written it.

Each function returns its value in the type that it promises, or raises ``ValueError`` with what was
expected.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_DTYPES = frozenset(
    f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)
) - {"float8"} | {"bool"}
_MAX_NUMBERS = 2**26
"""Numbers in an array: an image of 4096 x 4096 pixels with four channels."""
_MAX_TEXT = 1000
_INT64 = np.iinfo(np.int64)


def text(value: Any, what: str) -> str:
    """Text that a line can show: not empty, not long, Unicode."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise ValueError(f"{what} is {value!r:.80}, expected text of 1 to {_MAX_TEXT} characters")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError(f"{what} is {value!a:.80}, which is not Unicode text")
    return value


def integer(value: Any, what: str, smallest: int = _INT64.min, largest: int = _INT64.max) -> int:
    """An integer in a range."""
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise ValueError(f"{what} is {value!r:.80}, expected {smallest} to {largest}")
    return value


def number(value: Any, what: str) -> float:
    """A finite number; an integer stays one."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not known or not math.isfinite(value):
        raise ValueError(f"{what} is {value!r:.80}, expected a finite number")
    found: float = value
    return found


def shape(value: Any, what: str) -> tuple[int, ...]:
    """The shape of an array that fits in memory."""
    if not isinstance(value, list) or len(value) > 8:
        raise ValueError(f"{what} is {value!r:.80}, expected a list of up to 8 sizes")
    sizes = tuple(integer(size, what, 0) for size in value)
    if math.prod(sizes) > _MAX_NUMBERS:
        raise ValueError(f"{what} is {sizes}, expected at most {_MAX_NUMBERS} numbers")
    return sizes


def dtype(value: Any, what: str) -> np.dtype[Any]:
    """A dtype of numbers that ONNX has, by name."""
    if value not in _DTYPES:
        raise ValueError(f"{what} is {value!r:.80}, expected one of {', '.join(sorted(_DTYPES))}")
    return np.dtype(str(value))
