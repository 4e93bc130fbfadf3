"""Numbers, arrays and text as JavaScript source."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import numpy as np

from trpo_deploy.errors import ExportError
from trpo_deploy.spec.spaces import Array

ARRAYS: Mapping[str, str] = {
    "bool": "Uint8Array",
    **{name: f"{name.capitalize()}Array" for name in ("int8", "int16", "int32")},
    **{f"u{name}": f"Ui{name[1:]}Array" for name in ("int8", "int16", "int32")},
    "int64": "Float64Array",
    **{name: f"{name.capitalize()}Array" for name in ("float32", "float64")},
}
"""The typed array of a dtype. A BigInt64Array would give BigInts, which mix with no number."""

LARGEST_INTEGER = 2**53 - 1
"""Beyond it, not every integer is a JavaScript number."""


def array_type(dtype: np.dtype[Any]) -> str:
    """The typed array of a dtype.

    Raises:
        ExportError: There is none.
    """
    if str(dtype) not in ARRAYS:
        raise ExportError(
            f"this target cannot hold the policy: it has the dtype {dtype}; expected one of "
            f"{', '.join(ARRAYS)}"
        )
    return ARRAYS[str(dtype)]


def number(value: Any) -> str:
    """One number.

    Raises:
        ExportError: The number is NaN, or an integer that no JavaScript number can hold.
    """
    if isinstance(value, (bool, int, np.bool_, np.integer)):
        if abs(int(value)) > LARGEST_INTEGER:
            raise ExportError(
                f"this target cannot hold the policy: its number {value} has more than 53 bits"
            )
        return str(int(value))
    real = float(value)
    if np.isnan(real):
        raise ExportError("this target cannot hold the policy: one of its numbers is NaN")
    return repr(real).replace("inf", "Infinity").removesuffix(".0")


def numbers(values: Array) -> str:
    """A flat array; a single number if all are equal."""
    flat = values.reshape(-1)
    kept = flat[:1] if (flat == flat[:1]).all() else flat
    return f"[{', '.join(number(each) for each in kept)}]"


def decoded(values: Array) -> str:
    """A typed array of all numbers, from Base64 of their little-endian bytes.

    Raises:
        ExportError: A number is NaN.
    """
    kind = array_type(values.dtype)
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ExportError("this target cannot hold the policy: one of its numbers is NaN")
    dtype = np.float64 if values.dtype == np.int64 else values.dtype
    little = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<"))
    return f'decode("{b64encode(little.tobytes()).decode()}", {kind})'


def string(text: str) -> str:
    """A text as a string, also within a script element of a page."""
    inner = json.dumps(text)[1:-1].replace('\\"', '"').replace("'", "\\'")
    return "'" + inner.replace("<", "\\u003c") + "'"


def comment(text: str) -> str:
    """A text that may stand in a comment."""
    return re.sub(r"[^\x20-\x7e]|<", "?", text).replace("*/", "* /")
