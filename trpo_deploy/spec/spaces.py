"""Spaces of observations and actions as a spec describes them: shape, dtype, legal values."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from trpo_deploy.errors import ObservationError

Array: TypeAlias = npt.NDArray[Any]


Json: TypeAlias = dict[str, Any]


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
        """What the ONNX file takes or gives: float32, or an integer dtype."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Array:
        """A legal value, of :attr:`shape` and :attr:`dtype`."""

    @abstractmethod
    def to_json(self) -> Json:
        """The space as JSON values."""

    @abstractmethod
    def describe(self) -> str:
        """The space in words."""

    @abstractmethod
    def check_values(self, array: Array, name: str) -> None:
        """Refuse a batch of the right shape and dtype that holds an illegal value.

        Raises:
            ObservationError: naming what was illegal.
        """

    def check(self, value: object, name: str) -> Array:
        """Turn one observation or a batch of them into what the ONNX file takes.

        Args:
            value: array or nested lists, of shape :attr:`shape` or ``(batch, *shape)``.
            name: the observation's key, for messages.

        Returns:
            An array of :attr:`dtype`, with or without the batch axis as it came.

        Raises:
            ObservationError: wrong shape or dtype, or an illegal value.
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
        # Any whole or real number may become a float; only whole ones may become an integer.
        kinds = "biuf" if self.dtype.kind == "f" else "biu"
        if array.dtype.kind not in kinds:
            raise ObservationError(name, self._expected(), _dtype_in_words(array), kind="dtype")
        if self.dtype.kind != "f" and array.size:
            limits = np.iinfo(self.dtype)
            if int(array.min()) < limits.min or int(array.max()) > limits.max:
                raise ObservationError(
                    name,
                    f"values that fit {self.dtype}",
                    f"{array.min()} to {array.max()}",
                    kind="out_of_range",
                )
        with np.errstate(over="ignore"):  # too large for float32 is infinite, refused later
            return array.astype(self.dtype)

    def _expected(self) -> str:
        batch = "(" + ", ".join(["batch", *map(str, self.shape)]) + ("," if not self.shape else "")
        return f"{self.dtype} of shape {self.shape} or {batch})"


def _dtype_in_words(array: Array) -> str:
    if array.dtype.kind in "USO":
        return "text or mixed values"
    return f"dtype {array.dtype}"


def _check_range(array: Array, low: Array | int, high: Array | int, name: str) -> None:
    """Refuse whole numbers outside of ``low`` to ``high``, both inclusive."""
    wrong = (array < low) | (array > high)
    if wrong.any():
        raise ObservationError(
            name,
            f"whole numbers in [{_short(low)}, {_short(high)}]",
            str(array[wrong][0]),
            kind="out_of_range",
        )


@dataclass(frozen=True, eq=False)
class BoxSpace(Space):
    """An array with bounds, finite or not, such as joint angles or an image."""

    kind = "box"

    low: Array
    """Lower bounds, of the array's shape, in the environment's own dtype."""
    high: Array
    """Upper bounds, likewise."""
    input_dtype: str = "float32"
    """What an array of floating-point numbers is fed as; ``float64`` on request only."""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape without the batch axis."""
        return self.low.shape

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The environment's dtype, and :attr:`input_dtype` for all floating-point ones."""
        return np.dtype(self.input_dtype) if self.low.dtype.kind == "f" else self.low.dtype

    def sample(self, rng: np.random.Generator) -> Array:
        """Uniform where bounded on both sides, else around the finite bound or zero."""
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
        # A float64 range may be too wide to be one: keep the one-sided sample then.
        value = np.where(below & above & np.isfinite(inside), inside, value)
        limit = np.finfo(np.float32).max  # a float64 bound may lie beyond
        return np.clip(np.clip(value, low, high), -limit, limit).astype(self.dtype)

    def check_values(self, array: Array, name: str) -> None:
        """Refuse NaN and infinities; real environments do leave their stated bounds."""
        if array.dtype.kind != "f":
            return
        # Counting takes half the time of .all(), on a path that every action passes.
        if np.count_nonzero(np.isfinite(array)) != array.size:
            wrong = array[~np.isfinite(array)][0]
            expected = f"finite {self.dtype} numbers"
            raise ObservationError(name, expected, str(wrong), kind="not_finite")

    def to_json(self) -> Json:
        """Equal bounds are written once, so that an image's spec stays small."""
        value = {
            "kind": self.kind,
            "shape": list(self.shape),
            "dtype": str(self.low.dtype),
            "low": _numbers_to_json(self.low),
            "high": _numbers_to_json(self.high),
        }
        if self.input_dtype != "float32":
            value["input_dtype"] = self.input_dtype
        return value

    def describe(self) -> str:
        """The space in words."""
        return f"Box{self.shape} {self.low.dtype} in [{_short(self.low)}, {_short(self.high)}]"


@dataclass(frozen=True, eq=False)
class DiscreteSpace(Space):
    """One whole number out of ``start`` to ``start + n - 1``."""

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
        """Uniform."""
        return np.asarray(rng.integers(self.start, self.start + self.n, dtype=np.int64))

    def check_values(self, array: Array, name: str) -> None:
        """Refuse numbers outside of the range."""
        _check_range(array, self.start, self.start + self.n - 1, name)

    def to_json(self) -> Json:
        """The space as JSON values."""
        return {"kind": self.kind, "n": self.n, "start": self.start}

    def describe(self) -> str:
        """The space in words."""
        return f"Discrete({self.n})" + (f" from {self.start}" if self.start else "")


@dataclass(frozen=True, eq=False)
class MultiDiscreteSpace(Space):
    """Whole numbers, each out of its own ``start`` to ``start + nvec - 1``."""

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
        """Uniform."""
        return np.asarray(rng.integers(self.start, self.start + self.nvec, dtype=np.int64))

    def check_values(self, array: Array, name: str) -> None:
        """Refuse numbers outside of their ranges."""
        _check_range(array, self.start, self.start + self.nvec - 1, name)

    def to_json(self) -> Json:
        """The space as JSON values."""
        return {"kind": self.kind, "nvec": self.nvec.tolist(), "start": self.start.tolist()}

    def describe(self) -> str:
        """The space in words."""
        return f"MultiDiscrete({_short(self.nvec)})"


@dataclass(frozen=True, eq=False)
class MultiBinarySpace(Space):
    """Zeros and ones."""

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
        """Uniform."""
        return rng.integers(0, 2, size=self.n, dtype=np.int8)

    def check_values(self, array: Array, name: str) -> None:
        """Refuse all but 0 and 1."""
        _check_range(array, 0, 1, name)

    def to_json(self) -> Json:
        """The space as JSON values."""
        return {"kind": self.kind, "shape": list(self.n)}

    def describe(self) -> str:
        """The space in words."""
        return f"MultiBinary{self.n}"


@dataclass(frozen=True, eq=False)
class DictSpace:
    """An observation of several arrays, each under its key. Only an observation can be one."""

    kind: ClassVar[str] = "dict"

    spaces: Mapping[str, Space]

    def to_json(self) -> Json:
        """The space as JSON values."""
        return {
            "kind": self.kind,
            "spaces": {key: space.to_json() for key, space in self.spaces.items()},
        }

    def describe(self) -> str:
        """The space in words."""
        return "Dict(" + ", ".join(f"{k}: {s.describe()}" for k, s in self.spaces.items()) + ")"


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
            _numbers_from_json(value["low"], shape, dtype),
            _numbers_from_json(value["high"], shape, dtype),
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


def _numbers_to_json(array: Array) -> Any:
    """Nested lists; one number stands for an array of equal ones; infinities become strings."""
    if array.size and (array == array.flat[0]).all():
        return number_to_json(array.flat[0].item())
    return _map_nested(array.tolist(), number_to_json)


def _numbers_from_json(value: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    numbers = np.array(_map_nested(value, lambda x: float(x) if isinstance(x, str) else x))
    return np.broadcast_to(numbers.astype(dtype), shape).copy()


def _map_nested(value: Any, function: Any) -> Any:
    if isinstance(value, list):
        return [_map_nested(item, function) for item in value]
    return function(value)


def number_to_json(number: float) -> float | str:
    """The number itself; ``"inf"``, ``"-inf"`` or ``"nan"`` where JSON has none."""
    return number if math.isfinite(number) else str(number)


def _short(numbers: Array | int) -> str:
    """At most a few numbers, for one line."""
    array = np.asarray(numbers)
    if array.size and (array == array.flat[0]).all():
        return f"{array.flat[0]:g}"
    text = np.array2string(array, separator=", ", threshold=6, edgeitems=3, precision=4)
    return " ".join(text.split())
