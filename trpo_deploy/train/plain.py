"""Plain values as one file: JSON for the structure, npz for the arrays, and no pickle.

What can be kept: None, bools, numbers, text, bytes, lists, tuples, deques, mappings, NumPy
arrays and scalars, torch tensors, NumPy generators. Everything else raises :class:`NotPlainError`.
"""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from trpo_deploy.spec import Array

_STRUCTURE = "structure"
_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


class NotPlainError(TypeError):
    """A value is an object of a kind that a file of plain values does not take."""


def dump_plain(value: Any) -> bytes:
    """A value as the bytes of an ``npz`` file; it shares no memory with the value.

    Raises:
        NotPlainError: something in it is no plain value.
    """
    arrays: dict[str, Array] = {}
    structure = json.dumps(_encode(value, arrays))
    buffer = io.BytesIO()
    np.savez(buffer, **{_STRUCTURE: np.array(structure)}, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def load_plain(data: bytes) -> Any:
    """The value that :func:`dump_plain` was given.

    Raises:
        ValueError: these are not such bytes.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _decode(json.loads(str(arrays[_STRUCTURE])), arrays)
    except Exception as error:  # zip, npy and JSON readers raise whatever they meet first
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _encode(value: Any, arrays: dict[str, Array]) -> Any:
    """A value as JSON knows it; whatever JSON does not know is ``{"kind": ..., ...}``."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_encode(item, arrays) for item in value]
    if type(value) in (tuple, deque):
        kept = {"items": [_encode(item, arrays) for item in value]}
        more = {"maxlen": value.maxlen} if isinstance(value, deque) else {}
        return {"kind": type(value).__name__, **kept, **more}
    if isinstance(value, Mapping):
        pairs = [[_encode(key, arrays), _encode(item, arrays)] for key, item in value.items()]
        return {"kind": "dict", "items": pairs}
    if isinstance(value, (bytes, np.ndarray, np.generic, torch.Tensor)):
        return _encode_array(value, arrays)
    if isinstance(value, np.random.Generator):
        state = value.bit_generator.state
        return {"kind": "generator", "state": _encode(state, arrays)}
    raise NotPlainError(f"{type(value).__module__}.{type(value).__qualname__}")


def _encode_array(value: Any, arrays: dict[str, Array]) -> Any:
    kind = "array" if isinstance(value, np.ndarray) else "scalar"
    if isinstance(value, bytes):
        kind, value = "bytes", np.frombuffer(value, np.uint8)
    elif isinstance(value, torch.Tensor):
        kind, value = "tensor", value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise NotPlainError("an array of objects")
    name = str(len(arrays))
    # The order of axes in memory is kept too: sums over transposed images round otherwise.
    axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    arrays[name] = array.transpose(axes)
    return {"kind": kind, "name": name, "axes": axes}


_AS: dict[str, Callable[[Array], Any]] = {
    "array": lambda array: array,
    "bytes": lambda array: array.tobytes(),
    "scalar": lambda array: array[()],
    "tensor": torch.from_numpy,
}


def _decode(value: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value["kind"]
    if "name" in value:
        return _AS[kind](arrays[value["name"]].transpose(np.argsort(value["axes"])))
    if kind == "generator":
        return _generator(_decode(value["state"], arrays))
    items = [_decode(item, arrays) for item in value["items"]]
    if kind == "dict":
        return {key: item for key, item in items}  # noqa: C416 - pairs are lists
    return tuple(items) if kind == "tuple" else deque(items, maxlen=value["maxlen"])


def _generator(state: dict[str, Any]) -> np.random.Generator:
    name = state["bit_generator"]
    if name not in _GENERATORS:
        raise ValueError(f"no random generator {name!r}")
    bits = getattr(np.random, name)()
    bits.state = state
    return np.random.Generator(bits)
