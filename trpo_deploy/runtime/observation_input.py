"""From a robot's observation to the network's input: checked, and in the file's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trpo_deploy.runtime.faults import Fault
from trpo_deploy.runtime.orders import Positions
from trpo_deploy.spec.spaces import FEW, Array


class ObservationInput:
    """Copies one array of an observation to the network's input.

    Args:
        key: Key of the observation.
        buffer: The network's input, ``(1, *shape)``.
        low: Smallest allowed numbers, of the input's shape.
        high: Largest allowed numbers.
        positions: Where each of the input's numbers is in the robot's array; ``None`` if the robot
            has the input's shape and order.
        names: Names of the input's numbers; empty if unknown.
    """

    def __init__(
        self,
        key: str,
        buffer: Array,
        low: Array,
        high: Array,
        positions: Positions | None,
        names: Sequence[str],
    ) -> None:
        self._key, self._names, self._positions = key, names, positions
        self._input, self._size = buffer.reshape(-1), low.size
        self._shape = low.shape if positions is None else (low.size,)
        self._low, self._high = low.reshape(-1), high.reshape(-1)
        # Wider than the input, so that no number overflows before the check.
        self._given = np.zeros(self._shape, low.dtype)
        self._above, self._below = np.zeros(low.size, bool), np.zeros(low.size, bool)
        self._view = self._input.data
        order = np.arange(low.size) if positions is None else positions
        columns = (np.arange(low.size), order, self._low, self._high)
        self._plan = tuple(zip(*(each[:FEW].tolist() for each in columns), strict=True))

    def read(self, value: object) -> Fault | None:
        """Copy an observation to the input, or say why not. Never raises."""
        try:
            array = value if type(value) is np.ndarray else np.asarray(value)
            if array.shape != self._shape:
                return self._malformed(f"shape {array.shape}")
            return self._read_few(array) if self._size <= FEW else self._read_many(array)
        except Exception as error:  # an object may raise anything while it is converted
            return self._malformed(str(error).partition("\n")[0] or type(error).__name__)

    def _read_few(self, array: Array) -> Fault | None:
        """Without NumPy's functions, whose code has left the caches since the last call."""
        values = (array if array.ndim == 1 else array.reshape(-1)).tolist()
        view = self._view
        for index, position, low, high in self._plan:
            number = values[position]
            if not low <= number <= high:  # also for NaN
                return self._wrong(self._in_order(np.array(values, self._low.dtype)))
            view[index] = number
        return None

    def _read_many(self, array: Array) -> Fault | None:
        np.copyto(self._given, array, casting="same_kind")
        values = self._in_order(self._given.reshape(-1))
        np.greater_equal(values, self._low, out=self._above)
        np.less_equal(values, self._high, out=self._below)
        # count_nonzero takes a third of the time of all().
        if np.count_nonzero(self._above) + np.count_nonzero(self._below) != 2 * self._size:
            return self._wrong(values)
        np.copyto(self._input, values, casting="unsafe")
        return None

    def _in_order(self, given: Array) -> Array:
        return given if self._positions is None else given.take(self._positions)

    def _malformed(self, received: str) -> Fault:
        expected = f"numbers of shape {self._shape} that fit {self._input.dtype}"
        text = f"observation {self._key!r}: expected {expected}, received {received}"
        return Fault("malformed", text)

    def _wrong(self, values: Array) -> Fault:
        """The fault of the first number that is not finite, else of the first out of range."""
        low, high = self._low, self._high
        infinite = ~np.isfinite(values)
        index = int(np.argmax(infinite if infinite.any() else (values < low) | (values > high)))
        name = repr(self._names[index]) if self._names else f"number {index}"
        return Fault(
            "not_finite" if infinite.any() else "out_of_range",
            f"observation {self._key!r}: expected {name} in [{low[index]:g}, {high[index]:g}], "
            f"received {values[index]:g}",
        )


class DictInput:
    """Copies the arrays of an observation with keys to the network's inputs."""

    def __init__(self, inputs: Mapping[str, ObservationInput]) -> None:
        self._inputs = inputs

    def read(self, value: object) -> Fault | None:
        """Copy an observation to the inputs, or say why not. Never raises."""
        if not isinstance(value, Mapping) or value.keys() != self._inputs.keys():
            received = sorted(map(str, value)) if isinstance(value, Mapping) else type(value)
            expected = f"an array for each of the keys {sorted(self._inputs)}"
            return Fault("malformed", f"observation: expected {expected}, received {received}")
        for key, reader in self._inputs.items():
            fault = reader.read(value[key])
            if fault is not None:
                return fault
        return None
