"""Values as one ``npz`` file: JSON for the structure, arrays for the numbers, no pickle.

Supported values: None, bools, numbers, text, bytes, lists, tuples, deques, dicts, NumPy arrays and
scalars, torch tensors, NumPy generators. All others raise :class:`UnsupportedValueError`.
"""

from __future__ import annotations

import io
import json
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from trpo_deploy.spec.spaces import Array

_STRUCTURE = "structure"
_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


class UnsupportedValueError(TypeError):
    """The codec does not support a value of this type."""


def encode(value: Any, *, allow_views: bool = True) -> bytes:
    """Encode a value as the bytes of an ``npz`` file; they share no memory with the value.

    An object that occurs twice decodes to one object that occurs twice.

    Args:
        value: The value to encode.
        allow_views: Accept arrays that share memory. They decode to independent arrays.

    Raises:
        UnsupportedValueError: A part has an unsupported type, contains itself, or shares memory
            where that is not allowed.
    """
    encoder = _Encoder(allow_views)
    structure = json.dumps(encoder.encode(value))
    buffer = io.BytesIO()
    entries: dict[str, Any] = {_STRUCTURE: np.array(structure), **encoder.arrays}
    np.savez(buffer, **entries)
    return buffer.getvalue()


def decode(data: bytes) -> Any:
    """Decode what :func:`encode` returned.

    Raises:
        ValueError: The bytes do not come from :func:`encode`.
    """
    if not data.startswith(b"PK"):  # NumPy's own message would talk about pickles
        raise ValueError("not an npz file")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _Decoder(arrays).decode(json.loads(str(arrays[_STRUCTURE])))
    except Exception as error:  # the zip, npy and JSON readers raise many types
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


_SHAREABLE = (list, deque, Mapping, np.ndarray, torch.Tensor, np.random.Generator)
"""Mutable types: for these, two references to one object must stay one object."""


class _Encoder:
    """Converts a value to JSON; a type that JSON lacks becomes ``{"kind": ..., ...}``."""

    def __init__(self, allow_views: bool) -> None:
        self._allow_views = allow_views
        self.arrays: dict[str, Array] = {}
        self._seen: dict[int, tuple[Any, int | None]] = {}
        """By ``id``: the object, kept alive, and its number, or None while it is being encoded."""
        self._owners: dict[int, Any] = {}
        """By ``id``: the arrays that own the memory of the arrays encoded so far."""
        self._count = 0

    def encode(self, value: Any) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if not isinstance(value, _SHAREABLE):
            return self._encode(value)
        if id(value) in self._seen:
            number = self._seen[id(value)][1]
            if number is None:
                raise UnsupportedValueError(f"a {type(value).__name__} that contains itself")
            return {"kind": "same", "as": number}
        self._seen[id(value)] = value, None
        encoded = self._encode(value)
        self._seen[id(value)] = value, self._count
        self._count += 1
        return encoded

    def _encode(self, value: Any) -> Any:
        if type(value) is list:
            return [self.encode(item) for item in value]
        if type(value) in (tuple, deque):
            kept = {"items": [self.encode(item) for item in value]}
            more = {"maxlen": value.maxlen} if isinstance(value, deque) else {}
            return {"kind": type(value).__name__, **kept, **more}
        # Not their subclasses: a decoded value would lose the subclass's behaviour.
        if type(value) in (dict, OrderedDict):
            pairs = [[self.encode(key), self.encode(item)] for key, item in value.items()]
            return {"kind": type(value).__name__, "items": pairs}
        if type(value) is np.ndarray or isinstance(value, (bytes, np.generic, torch.Tensor)):
            return self._encode_array(value)
        if isinstance(value, np.random.Generator):
            return {"kind": "generator", "state": self.encode(value.bit_generator.state)}
        raise UnsupportedValueError(f"{type(value).__module__}.{type(value).__qualname__}")

    def _encode_array(self, value: Any) -> Any:
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        if isinstance(value, np.ndarray):
            self._check_memory(value)
        elif isinstance(value, bytes):
            kind, value = "bytes", np.frombuffer(value, np.uint8)
        elif isinstance(value, torch.Tensor):
            kind, value = "tensor", value.detach().cpu().numpy()
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise UnsupportedValueError("an array of objects")
        name = str(len(self.arrays))
        # Keep the order of the axes in memory and the strides of axes of length one. torch chooses
        # the convolution by them, and another convolution rounds its sums differently.
        axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        self.arrays[name] = array.transpose(axes)
        return {"kind": kind, "name": name, "axes": axes, "strides": array.strides}

    def _check_memory(self, array: Array) -> None:
        owner: Any = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        if id(owner) in self._owners and not self._allow_views:
            raise UnsupportedValueError("two arrays that share memory")
        self._owners[id(owner)] = owner


_FROM_ARRAY: dict[str, Callable[[Array], Any]] = {
    "array": lambda array: array,
    "bytes": lambda array: array.tobytes(),
    "scalar": lambda array: array[()],
    "tensor": torch.from_numpy,
}


class _Decoder:
    """Inverse of :class:`_Encoder`; both number shareable objects in the order of completion."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self._shareable: list[Any] = []

    def decode(self, value: Any) -> Any:
        if not isinstance(value, (list, dict)):
            return value
        if isinstance(value, dict) and value["kind"] == "same":
            return self._shareable[value["as"]]
        decoded = self._decode(value)
        if isinstance(decoded, _SHAREABLE):
            self._shareable.append(decoded)
        return decoded

    def _decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        kind = value["kind"]
        if "name" in value:
            return _FROM_ARRAY[kind](_with_layout(self._arrays[value["name"]], value))
        if kind == "generator":
            return _generator(self.decode(value["state"]))
        if kind in ("dict", "OrderedDict"):
            pairs = [(self.decode(key), self.decode(item)) for key, item in value["items"]]
            return dict(pairs) if kind == "dict" else OrderedDict(pairs)
        items = [self.decode(item) for item in value["items"]]
        return tuple(items) if kind == "tuple" else deque(items, maxlen=value["maxlen"])


def _with_layout(array: Array, value: dict[str, Any]) -> Array:
    """The array with its original axes, and its original strides on axes of length one."""
    packed = array.transpose(np.argsort(value["axes"]))
    strides = [
        original if size == 1 else current
        for size, original, current in zip(
            packed.shape, value["strides"], packed.strides, strict=True
        )
    ]
    return np.ndarray(packed.shape, array.dtype, array, strides=strides)


def _generator(state: dict[str, Any]) -> np.random.Generator:
    name = state["bit_generator"]
    if name not in _GENERATORS:
        raise ValueError(f"unknown random generator {name!r}; expected {', '.join(_GENERATORS)}")
    bits = getattr(np.random, name)()
    bits.state = state
    return np.random.Generator(bits)
