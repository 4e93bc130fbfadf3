"""Observation and action spaces: shape, dtype, legal values, and their JSON."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from trpo_deploy.errors import ObservationError
from trpo_deploy.spec import json_checks
from trpo_deploy.spec.codec import Array as Array
from trpo_deploy.spec.codec import Json as Json
from trpo_deploy.spec.codec import array_from_json, array_to_json
from trpo_deploy.spec.nested_lists import PLAIN_TYPES, NestedListError, array_from_lists

_MAX_INT64 = int(np.iinfo(np.int64).max)
_MAX_INTEGERS = 2**20
"""Integers of a MultiDiscrete space; each has its own logits."""

FEW = 64
"""Arrays of up to so many numbers are checked faster in Python than by NumPy, whose code is not in
the caches after the pause of a control loop: 6 µs less for 11 numbers, the same for 100."""


@dataclass(frozen=True, eq=False)
class Space(ABC):
    """One array of an observation or action: its shape, dtype and legal values."""

    kind: ClassVar[str]

    @property
    def takes_booleans(self) -> bool:
        """Whether ``True`` and ``False`` in a list are 1 and 0."""
        return self.dtype.kind == "b"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape without the batch axis."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the ONNX input or output: float32, an integer dtype or bool."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Array:
        """Draw a legal value of :attr:`shape` and :attr:`dtype`."""

    @abstractmethod
    def to_json(self) -> Json:
        """The space as JSON values."""

    @abstractmethod
    def describe(self) -> str:
        """The space as one line of text."""

    @abstractmethod
    def check_values(self, array: Array, name: str) -> None:
        """Raise if an array of the right shape and dtype contains an illegal value.

        Raises:
            ObservationError: the array contains an illegal value; the message names it.
        """

    def check(self, value: object, name: str) -> Array:
        """Convert one observation, or a batch, to the ONNX input.

        Args:
            value: Array or nested lists of shape :attr:`shape` or ``(batch, *shape)``.
            name: Key of the observation, for messages.

        Returns:
            An array of :attr:`dtype` and of the shape of ``value``.

        Raises:
            ObservationError: The shape or dtype is wrong, or a value is illegal.
        """
        lists = type(value) in PLAIN_TYPES
        array = self._from_lists(value, name) if lists else np.asarray(value)
        shape = self.shape
        if array.shape != shape and (array.shape[1:] != shape or array.ndim != 1 + len(shape)):
            raise ObservationError(name, self._expected(), f"shape {array.shape}", kind="shape")
        cast = array if array.dtype == self.dtype else self._cast(array, name)
        self.check_values(cast, name)
        return cast

    def accepts(self, dtype: np.dtype[Any]) -> bool:
        """Whether arrays of a dtype are converted. An integer input takes no floats."""
        return dtype.kind in ("biuf" if self.dtype.kind == "f" else "biu")

    def _from_lists(self, value: object, name: str) -> Array:
        try:
            return array_from_lists(value, self.dtype, booleans=self.takes_booleans)
        except NestedListError as error:
            fits = f"values that fit {self.dtype}"
            expected = fits if error.kind == "out_of_range" else self._expected()
            raise ObservationError(name, expected, error.received, kind=error.kind) from error

    def _cast(self, array: Array, name: str) -> Array:
        if not self.accepts(array.dtype):
            raise ObservationError(name, self._expected(), _dtype_text(array), kind="dtype")
        if self.dtype.kind != "f" and array.size:
            smallest, largest = dtype_limits(self.dtype)
            if int(array.min()) < smallest or int(array.max()) > largest:
                raise ObservationError(
                    name,
                    f"values that fit {self.dtype}",
                    f"{array.min()} to {array.max()}",
                    kind="out_of_range",
                )
        with np.errstate(over="ignore"):  # overflow gives inf, refused later
            return array.astype(self.dtype)

    def _expected(self) -> str:
        batch = "(" + ", ".join(["batch", *map(str, self.shape)]) + ("," if not self.shape else "")
        return f"{self.dtype} of shape {self.shape} or {batch})"


def _dtype_text(array: Array) -> str:
    if array.dtype.kind == "O" and array.ndim == 0 and type(array.item()) is int:
        return "an integer beyond 64 bits"
    if array.dtype.kind in "USO":
        return "text or mixed values"
    return f"dtype {array.dtype}"


def dtype_limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    """The smallest and the largest finite number of a dtype."""
    if dtype.kind == "b":
        return 0, 1
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return limits.min, limits.max


def _check_range(array: Array, low: Array | int, high: Array | int, name: str) -> None:
    """Raise if a number is outside ``[low, high]``."""
    wrong = (array < low) | (array > high)
    if wrong.any():
        raise ObservationError(
            name,
            f"integers in [{_short(low)}, {_short(high)}]",
            str(array[wrong][0]),
            kind="out_of_range",
        )


@dataclass(frozen=True, eq=False)
class BoxSpace(Space):
    """An array with bounds for each element, such as joint angles or an image."""

    kind = "box"

    low: Array
    """Lower bounds, of the array's shape and the environment's dtype; may be ``-inf``."""
    high: Array
    """Upper bounds; may be ``inf``."""
    input_dtype: str = "float32"
    """Dtype of the ONNX input of a floating-point space; ``float64`` on request."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape without the batch axis."""
        return self.low.shape

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The environment's dtype; :attr:`input_dtype` if that is a floating-point one."""
        return np.dtype(self.input_dtype) if self.low.dtype.kind == "f" else self.low.dtype

    @cached_property
    def inner_bounds(self) -> tuple[Array, Array]:
        """The bounds in :attr:`dtype`, rounded inwards, so that the environment accepts both."""
        with np.errstate(over="ignore"):  # a float64 bound beyond float32 becomes infinite
            low, high = self.low.astype(self.dtype), self.high.astype(self.dtype)
        if self.dtype.kind == "f":
            up, down = np.array([np.inf, -np.inf], self.dtype)
            low = np.where(low < self.low, np.nextafter(low, up), low)
            high = np.where(high > self.high, np.nextafter(high, down), high)
        return low, high

    @cached_property
    def half_range(self) -> Array:
        """Half the distance between finite bounds, as float32."""
        return (0.5 * (self.high.astype(np.float64) - self.low)).astype(np.float32)

    def sample(self, rng: np.random.Generator) -> Array:
        """Draw uniformly between two finite bounds, exponentially from one, normally from none."""
        if self.dtype.kind != "f":
            kind = self.dtype.type  # NumPy 1.24 calls it for one bool; a dtype cannot be called
            return np.asarray(rng.integers(self.low, self.high, dtype=kind, endpoint=True))
        low, high = self.low.astype(np.float64), self.high.astype(np.float64)
        spread = rng.exponential(size=self.shape)
        value = rng.normal(size=self.shape)
        below, above = np.isfinite(low), np.isfinite(high)
        value = np.where(below, low + spread, value)
        value = np.where(above & ~below, high - spread, value)
        with np.errstate(invalid="ignore", over="ignore"):
            inside = low + (high - low) * rng.uniform(size=self.shape)
        # high - low may overflow float64: keep the one-sided sample then.
        value = np.where(below & above & np.isfinite(inside), inside, value)
        limit = np.finfo(np.float32).max  # a float64 bound may be larger
        return np.clip(np.clip(value, low, high), -limit, limit).astype(self.dtype)

    def check_values(self, array: Array, name: str) -> None:
        """Raise on NaN and infinities. Bounds are not checked: real environments exceed them."""
        if array.dtype.kind != "f":
            if array.dtype.kind == "b":  # bytes from a client may be neither 0 nor 1
                _check_range(array.view(np.uint8), 0, 1, name)
            return
        # Every prediction runs this check. In a control loop the caches are cold, and NumPy's
        # functions take 5 µs more than Python's for a few numbers. A sum may overflow: then look.
        if array.size <= FEW and math.isfinite(sum(array.reshape(-1).tolist())):
            return
        # count_nonzero takes half the time of all().
        if np.count_nonzero(np.isfinite(array)) != array.size:
            wrong = array[~np.isfinite(array)][0]
            expected = f"finite {self.dtype} numbers"
            raise ObservationError(name, expected, str(wrong), kind="not_finite")

    def to_json(self) -> Json:
        """The space as JSON values."""
        value = {
            "kind": self.kind,
            "shape": list(self.shape),
            "dtype": str(self.low.dtype),
            "low": array_to_json(self.low),
            "high": array_to_json(self.high),
        }
        if self.input_dtype != "float32":
            value["input_dtype"] = self.input_dtype
        return value

    def describe(self) -> str:
        """The space as one line of text."""
        return f"Box{self.shape} {self.low.dtype} in [{_short(self.low)}, {_short(self.high)}]"


@dataclass(frozen=True, eq=False)
class DiscreteSpace(Space):
    """One integer in ``[start, start + n - 1]``."""

    kind = "discrete"

    n: int
    start: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """A scalar."""
        return ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always int64."""
        return np.dtype(np.int64)

    def sample(self, rng: np.random.Generator) -> Array:
        """Draw uniformly."""
        return np.asarray(rng.integers(self.start, self.start + self.n, dtype=np.int64))

    def check_values(self, array: Array, name: str) -> None:
        """Raise if a number is outside the range."""
        _check_range(array, self.start, self.start + self.n - 1, name)

    def to_json(self) -> Json:
        """The space as JSON values."""
        return {"kind": self.kind, "n": self.n, "start": self.start}

    def describe(self) -> str:
        """The space as one line of text."""
        return f"Discrete({self.n})" + (f" from {self.start}" if self.start else "")


@dataclass(frozen=True, eq=False)
class MultiDiscreteSpace(Space):
    """Integers, each in its own range ``[start, start + nvec - 1]``."""

    kind = "multi_discrete"

    nvec: Array
    start: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without the batch axis."""
        return self.nvec.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always int64."""
        return np.dtype(np.int64)

    def sample(self, rng: np.random.Generator) -> Array:
        """Draw uniformly."""
        return np.asarray(rng.integers(self.start, self.start + self.nvec, dtype=np.int64))

    def check_values(self, array: Array, name: str) -> None:
        """Raise if a number is outside its range."""
        _check_range(array, self.start, self.start + self.nvec - 1, name)

    def to_json(self) -> Json:
        """The space as JSON values."""
        return {"kind": self.kind, "nvec": self.nvec.tolist(), "start": self.start.tolist()}

    def describe(self) -> str:
        """The space as one line of text."""
        return f"MultiDiscrete({_short(self.nvec)})"


@dataclass(frozen=True, eq=False)
class MultiBinarySpace(Space):
    """An array of zeros and ones."""

    kind = "multi_binary"

    n: tuple[int, ...]
    """The array's shape."""

    @property
    def takes_booleans(self) -> bool:
        """Zeros and ones may be written as ``False`` and ``True``."""
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without the batch axis."""
        return self.n

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always int8."""
        return np.dtype(np.int8)

    def sample(self, rng: np.random.Generator) -> Array:
        """Draw uniformly."""
        return rng.integers(0, 2, size=self.n, dtype=np.int8)

    def check_values(self, array: Array, name: str) -> None:
        """Raise if a number is neither 0 nor 1."""
        _check_range(array, 0, 1, name)

    def to_json(self) -> Json:
        """The space as JSON values."""
        return {"kind": self.kind, "shape": list(self.n)}

    def describe(self) -> str:
        """The space as one line of text."""
        return f"MultiBinary{self.n}"


@dataclass(frozen=True, eq=False)
class DictSpace:
    """Several arrays, each under its key. Only an observation space can be one."""

    kind: ClassVar[str] = "dict"

    spaces: Mapping[str, Space]

    def to_json(self) -> Json:
        """The space as JSON values."""
        return {
            "kind": self.kind,
            "spaces": {key: space.to_json() for key, space in self.spaces.items()},
        }

    def describe(self) -> str:
        """The space as one line of text."""
        return "Dict(" + ", ".join(f"{k}: {s.describe()}" for k, s in self.spaces.items()) + ")"


def bounds(space: Space) -> tuple[Array, Array]:
    """The smallest and the largest legal value of each number of a space, flat."""
    if isinstance(space, BoxSpace):
        return space.low.flatten(), space.high.flatten()
    if isinstance(space, DiscreteSpace):
        return np.array([space.start]), np.array([space.start + space.n - 1])
    if isinstance(space, MultiDiscreteSpace):
        return space.start.flatten(), (space.start + space.nvec - 1).flatten()
    return np.zeros(math.prod(space.shape), np.int8), np.ones(math.prod(space.shape), np.int8)


def space_from_json(value: Json) -> Space | DictSpace:
    """Read a space that :meth:`Space.to_json` or :meth:`DictSpace.to_json` wrote.

    Raises:
        KeyError: an entry is missing.
        TypeError: an entry has the wrong type.
        ValueError: the values are not those of a space.
    """
    if value["kind"] != DictSpace.kind:
        return _array_space_from_json(value)
    spaces = {key: _array_space_from_json(item) for key, item in value["spaces"].items()}
    if not spaces:
        raise ValueError("the Dict space has no keys")
    return DictSpace({_key(key): space for key, space in spaces.items()})


def _key(key: str) -> str:
    return key and json_checks.text(key, "a key of the Dict space")  # "" is a key of some


def _array_space_from_json(value: Json) -> Space:
    kind = value["kind"]
    if kind == BoxSpace.kind:
        return _box_from_json(value)
    if kind == DiscreteSpace.kind:
        return _discrete_from_json(value)
    if kind == MultiDiscreteSpace.kind:
        return _multi_discrete_from_json(value)
    if kind == MultiBinarySpace.kind:
        return MultiBinarySpace(json_checks.shape(value["shape"], "shape of the MultiBinary space"))
    raise ValueError(f"unknown kind of space {kind!r:.80}")


def _discrete_from_json(value: Json) -> DiscreteSpace:
    start = json_checks.integer(value["start"], "start of the Discrete space")
    most = _MAX_INT64 - max(start, 0)
    return DiscreteSpace(json_checks.integer(value["n"], "n of the Discrete space", 1, most), start)


def _multi_discrete_from_json(value: Json) -> MultiDiscreteSpace:
    nvec, start = _integers(value["nvec"]), _integers(value["start"])
    if nvec.shape != start.shape or not nvec.size or (nvec < 1).any():
        raise ValueError("nvec of the MultiDiscrete space is below 1 or has another shape")
    if (start > _MAX_INT64 - nvec).any():
        raise ValueError("the MultiDiscrete space has values beyond 64 bits")
    return MultiDiscreteSpace(nvec, start)


def _box_from_json(value: Json) -> BoxSpace:
    shape = json_checks.shape(value["shape"], "shape of the Box space")
    dtype = json_checks.dtype(value["dtype"], "dtype of the Box space")
    low, high = (array_from_json(value[name], shape, dtype) for name in ("low", "high"))
    if not (low <= high).all():  # also with a NaN
        raise ValueError("the Box space has a low above its high")
    input_dtype = value.get("input_dtype", "float32")
    if input_dtype not in ("float32", "float64"):
        raise ValueError(f"input_dtype is {input_dtype!r:.80}, expected float32 or float64")
    return BoxSpace(low, high, input_dtype)


def _integers(value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind != "i" or array.size > _MAX_INTEGERS:
        raise ValueError(f"expected at most {_MAX_INTEGERS} integers, received {value!r:.80}")
    return array.astype(np.int64)


def _short(numbers: Array | int) -> str:
    """A few of the numbers, for one line of text."""
    array = np.asarray(numbers)
    if array.size and (array == array.flat[0]).all():
        return f"{array.flat[0].item():g}"
    text = np.array2string(array, separator=", ", threshold=6, edgeitems=3, precision=4)
    return " ".join(text.split())
