"""Read JSON requests and write JSON replies."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from trpo_deploy.serve.errors import RequestError
from trpo_deploy.spec.spaces import Array

_TYPE_NAMES = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "true or false",
    type(None): "null",
}


def load_object(body: bytes | str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        RequestError: The body is not JSON (400), or not an object (422).
        MemoryError: There is no memory for its values.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith("Not enough memory"):
            raise MemoryError from error
        raise RequestError(400, "invalid_json", f"the body is not JSON: {error}") from error
    if type(value) is dict:
        return value
    raise RequestError(
        422,
        "wrong_type",
        "the body must be a JSON object",
        expected="an object",
        received=type_name(type(value)),
    )


def dump_array(array: Array) -> bytes:
    """An array as JSON; float32 numbers with the fewest digits that identify them."""
    if array.ndim == 0:
        return orjson.dumps(array.item())
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)


def type_name(kind: type) -> str:
    """The name of a JSON type, for messages."""
    return _TYPE_NAMES.get(kind, "a number")
