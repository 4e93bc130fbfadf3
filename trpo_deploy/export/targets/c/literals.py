"""Numbers, arrays and text as C source."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from trpo_deploy.errors import ExportError
from trpo_deploy.spec.spaces import Array

_INT32 = np.iinfo(np.int32)
_PER_LINE = 8


def number(value: Any, ctype: str) -> str:
    """One number as a literal of a C type; see :func:`numbers`."""
    return numbers(np.asarray([value]), ctype)[0]


def numbers(values: Array, ctype: str) -> list[str]:
    """The numbers of an array in order as literals of a C type.

    Infinities become the largest finite number: ``-ffast-math`` may drop code that names them, and
    as bounds both mean the same for finite numbers.

    Raises:
        ExportError: A number is NaN, or an integer of more than 32 bits.
    """
    flat = values.reshape(-1)
    if ctype in ("float", "double"):
        return _reals(flat, ctype)
    if ctype != "int64_t" and flat.size:
        outside = (flat <= _INT32.min) | (flat > _INT32.max)
        if outside.any():
            raise ExportError(
                f"this target cannot hold the policy: its number {flat[outside][0]} has more than "
                "32 bits"
            )
    return [str(int(value)) for value in flat]


def _reals(values: Array, ctype: str) -> list[str]:
    if np.isnan(values).any():
        raise ExportError("this target cannot hold the policy: one of its numbers is NaN")
    dtype = np.float64 if ctype == "double" else np.float32
    largest = np.finfo(dtype).max
    # str gives the shortest text that reads as the same number of the dtype.
    texts = [str(value) for value in np.clip(values, -largest, largest).astype(dtype)]
    return texts if ctype == "double" else [f"{text}f" for text in texts]


def initializer(values: Array, ctype: str) -> str:
    """The numbers of an array in order, in braces, some on each line."""
    texts = numbers(values, ctype)
    lines = (", ".join(texts[i : i + _PER_LINE]) for i in range(0, len(texts), _PER_LINE))
    return "{\n    " + ",\n    ".join(lines) + "\n}"


def comment(text: str) -> str:
    """A text that may stand in a comment."""
    printable = re.sub(r"[^\x20-\x7e]", "?", text)
    return printable.replace("*/", "* /").replace("/*", "/ *")


def string(text: str) -> str:
    """A text as a string literal; other characters than ASCII become UTF-8 bytes."""
    parts = [_character(byte) for byte in text.encode()]
    return f'"{"".join(parts)}"'


def _character(byte: int) -> str:
    if chr(byte) in '"\\?':  # "??/" is a trigraph
        return f"\\{chr(byte)}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
