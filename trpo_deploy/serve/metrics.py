"""Prometheus metrics of the hot endpoints; BentoML's ``/metrics`` shows them with its own.

Labels take values out of small sets only (endpoints, served models, statuses, error codes), so
no client can make the metrics grow.

Prometheus's client locks and writes to a file for each number, which takes longer than checking
an observation. So answers are tallied here, and :func:`publish` tells it many at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache

from prometheus_client import Counter, Histogram

# Seconds. A small policy answers within the first few, a batch of images within the last.
_BUCKETS = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)


class _Histogram(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add observations: how many fell into each bucket, and their sum."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


_REQUESTS = Counter("trpo_deploy_requests", "Answered requests", ["endpoint", "model", "status"])
_ERRORS = Counter("trpo_deploy_errors", "Refused requests by kind", ["code"])
_LATENCY = _Histogram(
    "trpo_deploy_request_seconds",
    "Time from the request's headers to the answer",
    ["endpoint", "model"],
    buckets=_BUCKETS,
)


class _Tally:
    """Answers of one endpoint, model and status that have not been published."""

    __slots__ = ("_counts", "_histogram", "_requests", "_seconds")

    def __init__(self, endpoint: str, model: str, status: int) -> None:
        self._requests = _REQUESTS.labels(endpoint, model, str(status))
        self._histogram = _LATENCY.labels(endpoint, model)
        self._clear()

    def _clear(self) -> None:
        self._counts = [0] * (len(_BUCKETS) + 1)  # the last is for what takes longer
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(_BUCKETS, seconds)] += 1
        self._seconds += seconds

    def publish(self) -> None:
        answers = sum(self._counts)
        if answers:
            self._requests.inc(answers)
            self._histogram.add(self._counts, self._seconds)
            self._clear()


_tallies: list[_Tally] = []


@cache
def _tally(endpoint: str, model: str, status: int) -> _Tally:
    tally = _Tally(endpoint, model, status)
    _tallies.append(tally)
    return tally


def count_request(endpoint: str, model: str, status: int, seconds: float) -> None:
    """Count one answer and its time; for the event loop's thread only, as :func:`publish` is."""
    _tally(endpoint, model, status).add(seconds)


def count_error(code: str) -> None:
    """Count one refusal by its kind."""
    _ERRORS.labels(code).inc()


def publish() -> None:
    """Put what was counted since the last time where ``/metrics`` of any worker finds it."""
    for tally in _tallies:
        tally.publish()
