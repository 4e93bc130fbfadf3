"""Plain values as one file: JSON for the structure, npz for the arrays, and no pickle.

What can be kept: None, bools, numbers, text, bytes, lists, tuples, deques, dicts, NumPy
arrays and scalars, torch tensors, NumPy generators. Everything else raises :class:`NotPlainError`.
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


class NotPlainError(TypeError):
    """A value is an object of a kind that a file of plain values does not take."""


def dump_plain(value: Any, *, views: bool = True) -> bytes:
    """A value as the bytes of an ``npz`` file; it shares no memory with the value.

    An object that is met twice is one object in what is loaded, too.

    Args:
        value: what to dump.
        views: take arrays that share memory; they share none in what is loaded.

    Raises:
        NotPlainError: something in it is no plain value, or holds itself.
    """
    encoder = _Encoder(views)
    structure = json.dumps(encoder.encode(value))
    buffer = io.BytesIO()
    np.savez(buffer, **{_STRUCTURE: np.array(structure)}, **encoder.arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def load_plain(data: bytes) -> Any:
    """The value that :func:`dump_plain` was given.

    Raises:
        ValueError: these are not such bytes.
    """
    if not data.startswith(b"PK"):  # NumPy would speak of pickles
        raise ValueError("not an npz file")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return _Decoder(arrays).decode(json.loads(str(arrays[_STRUCTURE])))
    except Exception as error:  # zip, npy and JSON readers raise whatever they meet first
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


_SHAREABLE = (list, deque, Mapping, np.ndarray, torch.Tensor, np.random.Generator)
"""What can change, so that it matters whether two are one."""


class _Encoder:
    """A value as JSON knows it; whatever JSON does not know is ``{"kind": ..., ...}``."""

    def __init__(self, views: bool) -> None:
        self._views = views
        self.arrays: dict[str, Array] = {}
        self._met: dict[int, tuple[Any, int | None]] = {}
        """By ``id``: the object, which must live on, and its number once it is encoded."""
        self._memory: dict[int, Any] = {}
        self._count = 0

    def encode(self, value: Any) -> Any:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if not isinstance(value, _SHAREABLE):
            return self._encode(value)
        if id(value) in self._met:
            number = self._met[id(value)][1]
            if number is None:
                raise NotPlainError(f"a {type(value).__name__} that holds itself")
            return {"kind": "same", "as": number}
        self._met[id(value)] = value, None
        encoded = self._encode(value)
        self._met[id(value)] = value, self._count
        self._count += 1
        return encoded

    def _encode(self, value: Any) -> Any:
        if type(value) is list:
            return [self.encode(item) for item in value]
        if type(value) in (tuple, deque):
            kept = {"items": [self.encode(item) for item in value]}
            more = {"maxlen": value.maxlen} if isinstance(value, deque) else {}
            return {"kind": type(value).__name__, **kept, **more}
        # No subclasses: they do more than what would come back.
        if type(value) in (dict, OrderedDict):
            pairs = [[self.encode(key), self.encode(item)] for key, item in value.items()]
            return {"kind": type(value).__name__, "items": pairs}
        if type(value) is np.ndarray or isinstance(value, (bytes, np.generic, torch.Tensor)):
            return self._encode_array(value)
        if isinstance(value, np.random.Generator):
            return {"kind": "generator", "state": self.encode(value.bit_generator.state)}
        raise NotPlainError(f"{type(value).__module__}.{type(value).__qualname__}")

    def _encode_array(self, value: Any) -> Any:
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        if isinstance(value, np.ndarray):
            self._claim(value)
        elif isinstance(value, bytes):
            kind, value = "bytes", np.frombuffer(value, np.uint8)
        elif isinstance(value, torch.Tensor):
            kind, value = "tensor", value.detach().cpu().numpy()
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise NotPlainError("an array of objects")
        name = str(len(self.arrays))
        # The order of axes in memory is kept too, and what is said of those with one entry: torch
        # chooses a convolution by it, and sums round otherwise.
        axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        self.arrays[name] = array.transpose(axes)
        return {"kind": kind, "name": name, "axes": axes, "strides": array.strides}

    def _claim(self, array: Array) -> None:
        owner: Any = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        if id(owner) in self._memory and not self._views:
            raise NotPlainError("two arrays of one memory")
        self._memory[id(owner)] = owner


_AS: dict[str, Callable[[Array], Any]] = {
    "array": lambda array: array,
    "bytes": lambda array: array.tobytes(),
    "scalar": lambda array: array[()],
    "tensor": torch.from_numpy,
}


class _Decoder:
    """What :class:`_Encoder` was given; both count what can be shared as it is completed."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays
        self._made: list[Any] = []

    def decode(self, value: Any) -> Any:
        if not isinstance(value, (list, dict)):
            return value
        if isinstance(value, dict) and value["kind"] == "same":
            return self._made[value["as"]]
        decoded = self._decode(value)
        if isinstance(decoded, _SHAREABLE):
            self._made.append(decoded)
        return decoded

    def _decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        kind = value["kind"]
        if "name" in value:
            return _AS[kind](_laid_out(self._arrays[value["name"]], value))
        if kind == "generator":
            return _generator(self.decode(value["state"]))
        if kind in ("dict", "OrderedDict"):
            pairs = [(self.decode(key), self.decode(item)) for key, item in value["items"]]
            return dict(pairs) if kind == "dict" else OrderedDict(pairs)
        items = [self.decode(item) for item in value["items"]]
        return tuple(items) if kind == "tuple" else deque(items, maxlen=value["maxlen"])


def _laid_out(array: Array, value: dict[str, Any]) -> Array:
    """An array with the axes, and the strides where they are of no account, that it had."""
    packed = array.transpose(np.argsort(value["axes"]))
    strides = [
        had if size == 1 else is_now
        for size, had, is_now in zip(packed.shape, value["strides"], packed.strides, strict=True)
    ]
    return np.ndarray(packed.shape, array.dtype, array, strides=strides)


def _generator(state: dict[str, Any]) -> np.random.Generator:
    name = state["bit_generator"]
    if name not in _GENERATORS:
        raise ValueError(f"no random generator {name!r}")
    bits = getattr(np.random, name)()
    bits.state = state
    return np.random.Generator(bits)
