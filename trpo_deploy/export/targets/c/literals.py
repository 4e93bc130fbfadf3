"""Numbers, arrays and text as C source."""

from __future__ import annotations

import re
from textwrap import fill
from typing import Any

import numpy as np

from trpo_deploy.errors import ExportError
from trpo_deploy.spec.spaces import Array

_INT32 = np.iinfo(np.int32)


def number(value: Any, ctype: str) -> str:
    """One number as a literal of a C type.

    Infinities become the largest finite number: ``-ffast-math`` may drop code that names them, and
    as bounds both mean the same for finite numbers.

    Raises:
        ExportError: The number is NaN, or an integer of more than 32 bits.
    """
    if ctype in ("float", "double"):
        return _real(float(value), ctype)
    whole = int(value)
    if ctype != "int64_t" and not _INT32.min < whole <= _INT32.max:
        raise ExportError(
            f"this target cannot hold the policy: its number {whole} has more than 32 bits"
        )
    return str(whole)


def _real(value: float, ctype: str) -> str:
    if np.isnan(value):
        raise ExportError("this target cannot hold the policy: one of its numbers is NaN")
    if ctype == "double":
        return repr(float(np.clip(value, -np.finfo(np.float64).max, np.finfo(np.float64).max)))
    largest = np.finfo(np.float32).max
    return f"{np.float32(np.clip(value, -largest, largest))!s}f"


def initializer(values: Array, ctype: str) -> str:
    """The numbers of an array in order, in braces and in lines of at most 100 characters."""
    numbers = ", ".join(number(value, ctype) for value in values.reshape(-1))
    text = fill(numbers, 96, break_long_words=False, break_on_hyphens=False)
    return "{\n" + _indented(text) + "\n}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


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
