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
from trpo_deploy.spec.codec import Array as Array
from trpo_deploy.spec.codec import Json as Json
from trpo_deploy.spec.codec import array_from_json, array_to_json

FEW = 64
"""Arrays of up to so many numbers are checked faster in Python than by NumPy, whose code is not in
the caches after the pause of a control loop: 6 µs less for 11 numbers, the same for 100."""


@dataclass(frozen=True, eq=False)
class Space(ABC):
    """One array of an observation or action: its shape, dtype and legal values."""

    kind: ClassVar[str]

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
        try:
            array = np.asarray(value)
        except (ValueError, OverflowError) as error:  # ragged lists, integers beyond 64 bits
            raise ObservationError(
                name, self._expected(), "an uneven nested list", kind="ragged"
            ) from error
        shape = self.shape
        if array.shape != shape and (array.shape[1:] != shape or array.ndim != 1 + len(shape)):
            raise ObservationError(name, self._expected(), f"shape {array.shape}", kind="shape")
        cast = array if array.dtype == self.dtype else self._cast(array, name)
        self.check_values(cast, name)
        return cast

    def _cast(self, array: Array, name: str) -> Array:
        # A float input accepts integers and floats; an integer input accepts integers only.
        kinds = "biuf" if self.dtype.kind == "f" else "biu"
        if array.dtype.kind not in kinds:
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
            return np.asarray(rng.integers(self.low, self.high, dtype=self.dtype, endpoint=True))
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
    """Read a space that :meth:`Space.to_json` or :meth:`DictSpace.to_json` wrote."""
    kind = value["kind"]
    if kind == DictSpace.kind:
        spaces = {key: _array_space_from_json(item) for key, item in value["spaces"].items()}
        return DictSpace(spaces)
    return _array_space_from_json(value)


def _array_space_from_json(value: Json) -> Space:
    kind = value["kind"]
    if kind == BoxSpace.kind:
        shape, dtype = tuple(value["shape"]), np.dtype(value["dtype"])
        return BoxSpace(
            array_from_json(value["low"], shape, dtype),
            array_from_json(value["high"], shape, dtype),
            value.get("input_dtype", "float32"),
        )
    if kind == DiscreteSpace.kind:
        return DiscreteSpace(int(value["n"]), int(value["start"]))
    if kind == MultiDiscreteSpace.kind:
        return MultiDiscreteSpace(
            np.asarray(value["nvec"], np.int64), np.asarray(value["start"], np.int64)
        )
    if kind == MultiBinarySpace.kind:
        return MultiBinarySpace(tuple(value["shape"]))
    raise ValueError(f"unknown kind of space {kind!r}")


def _short(numbers: Array | int) -> str:
    """A few of the numbers, for one line of text."""
    array = np.asarray(numbers)
    if array.size and (array == array.flat[0]).all():
        return f"{array.flat[0].item():g}"
    text = np.array2string(array, separator=", ", threshold=6, edgeitems=3, precision=4)
    return " ".join(text.split())
