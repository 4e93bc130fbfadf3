"""How a robot's action may change from one call to the next: blend-in and rate limits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trpo_deploy.spec.spaces import Array


class BlendIn:
    """Moves from an action to the policy's actions over some calls.

    The k-th action is ``(1 - w) * start + w * policy`` with ``w = min(1, k * period / duration)``.

    Args:
        durations: Seconds for each component, ``(n,)``; 0 for no transition.
        period: Seconds between two calls.
        low: Smallest legal action.
        high: Largest legal action.
    """

    def __init__(
        self, durations: npt.NDArray[np.float64], period: float, low: Array, high: Array
    ) -> None:
        self._low, self._high = low, high
        with np.errstate(divide="ignore"):
            self._step = period / durations
        self._start, self._mixed = np.zeros_like(low), np.zeros_like(low)
        self._weight = np.zeros_like(low)
        self._calls = 0
        self._is_over = False

    def restart(self, action: Array) -> None:
        """Begin again from an action."""
        np.copyto(self._start, action)
        self._calls, self._is_over = 0, False

    def mix(self, action: Array) -> Array:
        """The action to give instead of the policy's."""
        if self._is_over:
            return action
        self._calls += 1
        np.copyto(self._weight, np.minimum(1, self._calls * self._step), casting="same_kind")
        self._is_over = bool((self._weight == 1).all())
        if self._is_over:
            return action
        np.multiply(self._weight, action, out=self._mixed)
        np.subtract(1, self._weight, out=self._weight)
        self._mixed += self._weight * self._start
        np.clip(self._mixed, self._low, self._high, out=self._mixed)  # rounding may exceed a bound
        return self._mixed


class RateLimit:
    """Limits the change of an action in one call.

    Args:
        rates: Largest change of each component in units per second, ``(n,)``.
        period: Seconds between two calls.
        dtype: Dtype of the action.
    """

    def __init__(
        self, rates: npt.NDArray[np.float64], period: float, dtype: np.dtype[np.generic]
    ) -> None:
        with np.errstate(over="ignore"):
            self._step: Array = (period * rates).astype(dtype)
        self._low, self._high = np.zeros_like(self._step), np.zeros_like(self._step)

    def limit(self, action: Array, last: Array) -> Array:
        """The action nearest to ``action`` that may follow ``last``."""
        np.subtract(last, self._step, out=self._low)
        np.add(last, self._step, out=self._high)
        np.maximum(action, self._low, out=self._low)
        np.minimum(self._low, self._high, out=self._high)
        return self._high
