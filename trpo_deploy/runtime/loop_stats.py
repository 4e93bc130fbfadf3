"""What a control loop has done so far, counted in constant memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trpo_deploy.runtime.faults import CAUSES, Cause
from trpo_deploy.runtime.histogram import Distribution, Histogram


@dataclass(frozen=True)
class ControllerStats:
    """A snapshot of a controller's statistics. Times are in seconds."""

    calls: int
    """All calls of ``act``."""
    faults: Mapping[Cause, int]
    """Calls without a new action from the policy, by cause; each call counts once."""
    act: Distribution
    """Time that ``act`` took."""
    mean_period: float
    """Mean time from one call to the next; 0 before the second call."""
    jitter: Distribution
    """Distance of that time from the stated period."""


class LoopStats:
    """Counts calls, faults and times."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._faults: dict[Cause, int] = dict.fromkeys(CAUSES, 0)
        self._act, self._jitter = Histogram(), Histogram()
        self._calls = self._intervals = 0
        self._total = 0.0  # of the intervals

    def add_interval(self, seconds: float) -> None:
        """Count the time from one call to the next."""
        self._intervals += 1
        self._total += seconds
        self._jitter.add(int(1e9 * abs(seconds - self._period)))

    def add_call(self, nanoseconds: int, cause: Cause | None) -> None:
        """Count a call and the time that it took."""
        self._calls += 1
        self._act.add(nanoseconds)
        if cause is not None:
            self._faults[cause] += 1

    def snapshot(self) -> ControllerStats:
        """The statistics so far."""
        return ControllerStats(
            self._calls,
            dict(self._faults),
            self._act.distribution(),
            self._total / max(1, self._intervals),
            self._jitter.distribution(),
        )
