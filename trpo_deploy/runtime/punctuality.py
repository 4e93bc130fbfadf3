"""Whether a call and its observation come in time."""

from __future__ import annotations

import math

from trpo_deploy.runtime.faults import Fault


class Punctuality:
    """Watches the time between calls and the age of observations.

    Args:
        max_interval: Longest time from one call to the next, in seconds.
        max_age: Largest age of an observation in seconds; ``None`` to ignore stamps.
    """

    def __init__(self, max_interval: float, max_age: float | None) -> None:
        self._max_interval, self._max_age = max_interval, max_age
        self.restart()

    def restart(self) -> None:
        """Forget earlier calls."""
        self._previous: float | None = None
        self._newest = -math.inf

    def interval(self, now: float) -> float | None:
        """Seconds since the last call, if there was one."""
        previous, self._previous = self._previous, now
        return None if previous is None else now - previous

    def check(self, interval: float | None, now: float, stamp: float | None) -> Fault | None:
        """The fault of a call at ``now`` with an observation of the time ``stamp``."""
        if interval is not None and interval > self._max_interval:
            return Fault(
                "late",
                f"the call came {interval:g} s after the last one, expected at most "
                f"{self._max_interval:g} s",
            )
        if self._max_age is None:
            return None
        try:  # a robot's program may pass anything
            age = float(now - stamp)  # type: ignore[operator]
            in_order = bool(stamp >= self._newest)  # type: ignore[operator]
        except Exception:  # an object may raise anything while it is converted
            return Fault(
                "stale", f"the observation's stamp is {type(stamp).__name__}, expected seconds"
            )
        if not abs(age) <= self._max_age:  # also for NaN; a clock may be ahead, too
            return Fault(
                "stale", f"the observation is {age:g} s old, expected at most {self._max_age:g} s"
            )
        if not in_order:
            older = self._newest - (now - age)
            return Fault("stale", f"the observation is {older:g} s older than one used before")
        return None

    def accept(self, stamp: float | None) -> None:
        """Remember the stamp of an observation that was used."""
        if self._max_age is not None and stamp is not None:
            self._newest = float(stamp)  # a driver may reuse an array
