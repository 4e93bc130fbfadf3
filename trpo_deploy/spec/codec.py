"""Numbers, arrays and plain values as JSON, without loss.

JSON has no infinities and no NaN. An array writes them as the strings ``"inf"``, ``"-inf"`` and
``"nan"``. A plain value, which may contain such a string, writes ``{"__float__": "inf"}``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Json: TypeAlias = dict[str, Any]

_FLOAT = "__float__"


def number_to_json(number: float) -> float | str:
    """The number itself; ``"inf"``, ``"-inf"`` or ``"nan"`` where JSON has no number for it."""
    return number if math.isfinite(number) else str(number)


def array_to_json(array: Array) -> Any:
    """Nested lists, or a single number if all elements have the same bits.

    The single number keeps the spec of an image small. 0.0 and -0.0 compare equal, so the bits
    are compared.
    """
    if array.size:
        constant = np.full_like(array, array.flat[0])
        if array.tobytes() == constant.tobytes():
            return number_to_json(array.flat[0].item())
    return _map_nested(array.tolist(), number_to_json)


def array_from_json(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Read what :func:`array_to_json` wrote.

    Raises:
        ValueError: the numbers do not fit the shape or the dtype.
    """
    numbers = np.array(_map_nested(value, lambda x: float(x) if isinstance(x, str) else x))
    with np.errstate(invalid="ignore", over="ignore"):  # checked, or infinite in float32
        array = numbers.astype(dtype)
    if dtype.kind != "f" and (array != numbers).any():
        raise ValueError(f"an array of {dtype} has other numbers, such as {numbers.flat[0]!r:.80}")
    return array.reshape(shape) if isinstance(value, list) else np.full(shape, array, dtype)


def _map_nested(value: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(value, list):
        return [_map_nested(item, function) for item in value]
    return function(value)


def plain_to_json(value: Any) -> Any:
    """A value of None, booleans, numbers, text, lists and mappings; tuples become lists.

    Raises:
        TypeError: the value contains another type, or a key that is not text.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    if isinstance(value, (list, tuple)):
        return [plain_to_json(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        plain = {key: plain_to_json(item) for key, item in value.items()}
        if _FLOAT not in plain:
            return plain
    raise TypeError(f"JSON cannot represent {value!r:.80}")


def plain_from_json(value: Any) -> Any:
    """Read what :func:`plain_to_json` wrote."""
    if isinstance(value, list):
        return [plain_from_json(item) for item in value]
    if isinstance(value, dict):
        if _FLOAT in value:
            return float(value[_FLOAT])
        return {key: plain_from_json(item) for key, item in value.items()}
    return value
