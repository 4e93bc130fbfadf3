"""Raw tensors: the little-endian bytes of an array, with dtype and shape in headers."""

from __future__ import annotations

import re
from math import prod
from typing import Any

import numpy as np

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.spec.spaces import Array

DTYPE_HEADER = b"x-tensor-dtype"
SHAPE_HEADER = b"x-tensor-shape"
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "float32", "float64"),
    )
}
"""Accepted dtypes by numpy's name: numbers and booleans only."""
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
"""Names by dtype. The lookup takes a tenth of the time of numpy's ``dtype.name``."""

_MAX_ELEMENTS = 2**32
_SHAPE = re.compile(rb"[0-9]{1,9}(,[0-9]{1,9}){0,7}")


def tensor_from_headers(headers: dict[bytes, bytes], body: bytes) -> Array:
    """Read the array of a request.

    Raises:
        RequestError: A header is missing or invalid, or the body does not have the stated size.
    """
    dtype = DTYPES.get(_header(headers, DTYPE_HEADER, "float32").decode("latin-1"))
    if dtype is None:
        raise _bad_header(DTYPE_HEADER, f"one of {', '.join(DTYPES)}", headers[DTYPE_HEADER])
    text = _header(headers, SHAPE_HEADER, "4,84,84; empty for one number", empty=True)
    if text and not _SHAPE.fullmatch(text):
        raise _bad_header(SHAPE_HEADER, "up to eight whole numbers such as 84,84,4", text)
    shape = tuple(int(size) for size in text.split(b",")) if text else ()
    return tensor_from_bytes(body, dtype, shape, "body")


def tensor_from_bytes(
    data: bytes | memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], field: str
) -> Array:
    """View bytes as an array of a dtype and shape.

    Raises:
        RequestError: The number of bytes does not match, or an axis is too long.
    """
    size = dtype.itemsize * prod(shape)
    if len(data) != size:
        raise RequestError(
            422,
            "wrong_size",
            f"{field}: {dtype.name} of shape {shape} takes {size} bytes, received {len(data)}",
            field=field,
            expected=f"{size} bytes",
            received=f"{len(data)} bytes",
        )
    # numpy refuses an empty array too if its other axes are too long.
    if prod(axis or 1 for axis in shape) > _MAX_ELEMENTS:
        raise RequestError(
            422,
            "wrong_size",
            f"{field}: an axis of shape {shape} is too long",
            field=field,
            expected=f"at most {_MAX_ELEMENTS} elements without the empty axes",
            received=str(shape),
        )
    return np.frombuffer(data, dtype).reshape(shape)


def tensor_to_headers(array: Array) -> tuple[tuple[bytes, bytes], ...]:
    """The headers with an array's dtype and shape."""
    return (
        (DTYPE_HEADER, DTYPE_NAMES[array.dtype].encode()),
        (SHAPE_HEADER, ",".join(map(str, array.shape)).encode()),
    )


def _header(
    headers: dict[bytes, bytes], name: bytes, example: str, *, empty: bool = False
) -> bytes:
    value = headers.get(name)
    if value or (empty and value is not None):
        return value
    text = name.decode()
    raise RequestError(
        422,
        "missing_header",
        f"a raw tensor needs the header {text}, such as {text}: {example}",
        field=text,
        expected=example,
        received="no such header",
    )


def _bad_header(name: bytes, expected: str, received: bytes) -> RequestError:
    text = received.decode("latin-1")[:64]
    message = f"header {name.decode()}: expected {expected}, received {text!r}"
    return RequestError(
        422, "bad_header", message, field=name.decode(), expected=expected, received=text
    )
