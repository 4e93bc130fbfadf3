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
        self._input, self._dtype = buffer.reshape(-1), buffer.dtype
        self._shape = low.shape if positions is None else (low.size,)
        self._check = _RangeCheck(low.astype(self._dtype), high.astype(self._dtype))
        # Other dtypes take the way over a wide array, in which no number overflows.
        self._wide, self._check_wide = np.zeros(low.size, low.dtype), _RangeCheck(low, high)
        self._given = np.zeros(low.size, low.dtype).reshape(self._shape)

    def read(self, value: object) -> Fault | None:
        """Copy an observation to the input, or say why not. Never raises."""
        try:
            array = value if type(value) is np.ndarray else np.asarray(value)
            if array.shape != self._shape:
                return self._malformed(f"shape {array.shape}")
            if array.dtype == self._dtype:
                self._order(array, self._input)
                return None if self._check.passes(self._input) else self._wrong(self._input)
            np.copyto(self._given, array, casting="same_kind")
        except Exception as error:  # an object may raise anything while it is converted
            return self._malformed(str(error).partition("\n")[0] or type(error).__name__)
        self._order(self._given, self._wide)
        if not self._check_wide.passes(self._wide):
            return self._wrong(self._wide)
        np.copyto(self._input, self._wide, casting="unsafe")
        return None

    def _order(self, given: Array, output: Array) -> None:
        if self._positions is None:
            output[...] = given.reshape(-1)
        else:
            given.take(self._positions, out=output, mode="clip")

    def _malformed(self, received: str) -> Fault:
        expected = f"numbers of shape {self._shape} that fit {self._input.dtype}"
        text = f"observation {self._key!r}: expected {expected}, received {received}"
        return Fault("malformed", text)

    def _wrong(self, values: Array) -> Fault:
        """The fault of the first number that is not finite, else of the first out of range."""
        low, high = self._check_wide.low, self._check_wide.high
        infinite = ~np.isfinite(values)
        index = int(np.argmax(infinite if infinite.any() else (values < low) | (values > high)))
        name = repr(self._names[index]) if self._names else f"number {index}"
        return Fault(
            "not_finite" if infinite.any() else "out_of_range",
            f"observation {self._key!r}: expected {name} in [{low[index]:g}, {high[index]:g}], "
            f"received {values[index]:g}",
        )


class _RangeCheck:
    """Whether all numbers of a flat array are in their ranges."""

    def __init__(self, low: Array, high: Array) -> None:
        self.low, self.high = low.reshape(-1), high.reshape(-1)
        self._lows, self._highs = self.low.tolist(), self.high.tolist()
        self._above, self._below = np.zeros(low.size, bool), np.zeros(low.size, bool)

    def passes(self, values: Array) -> bool:
        """Whether all are; false for NaN."""
        if values.size <= FEW:  # for caches that are cold
            for value, low, high in zip(values.tolist(), self._lows, self._highs, strict=False):
                if not low <= value <= high:
                    return False
            return True
        np.greater_equal(values, self.low, out=self._above)
        np.less_equal(values, self.high, out=self._below)
        # count_nonzero takes a third of the time of all().
        passed = np.count_nonzero(self._above) + np.count_nonzero(self._below)
        return bool(passed == 2 * values.size)


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
