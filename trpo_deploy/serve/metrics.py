"""Prometheus metrics of the service; BentoML's ``/metrics`` includes them.

Label values come from fixed sets (endpoints, served models, statuses, error codes), so a client
cannot make the metrics grow.

The Prometheus client locks and writes to a file for each number, which takes longer than checking
an observation. Requests are therefore tallied in memory, and :func:`publish` writes the totals.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from time import perf_counter
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

METRICS_PATH = "/metrics"
"""Where BentoML serves them."""
MAX_MODELS = 100
"""With more models, their latencies are one histogram: each takes a series for every bucket."""
ALL_MODELS = "*"
"""The label of that histogram; no model can have this name."""

# Seconds. A small policy falls into the first buckets, a batch of images into the last.
BUCKETS = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)


class _Histogram(Histogram):
    """A histogram that accepts many observations in one call."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add observations, given as the count of each bucket and their sum."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


_REQUESTS = Counter("trpo_deploy_requests", "Answered requests", ["endpoint", "model", "status"])
_ERRORS = Counter("trpo_deploy_errors", "Refused requests by error code", ["code", "model"])
_LATENCY = _Histogram(
    "trpo_deploy_request_seconds",
    "Seconds from the request's headers to the response",
    ["endpoint", "model"],
    buckets=BUCKETS,
)

IN_FLIGHT = Gauge(
    "trpo_deploy_requests_in_flight",
    "Requests that are being read or answered, mean of a second",
    multiprocess_mode="livesum",
)
_MEAN_S = 0.9
"""Shortest time for that mean: a little less than the pause between two rounds of publishing."""
WAITING_JOBS = Gauge(
    "trpo_deploy_waiting_jobs",
    "Observations that wait for the next run of a policy",
    multiprocess_mode="livesum",
)
OPEN_WEBSOCKETS = Gauge(
    "trpo_deploy_open_websockets", "Open WebSockets", multiprocess_mode="livesum"
)
OPEN_STREAMS = Gauge(
    "trpo_deploy_open_grpc_streams", "Open gRPC streams", multiprocess_mode="livesum"
)
WORKER_RESTARTS = Counter("trpo_deploy_worker_restarts", "Workers that died and were replaced")
_RELOADS = Counter(
    "trpo_deploy_model_reloads", "Changed models that were taken up (ok) or refused", ["result"]
)


class _Tally:
    """Unpublished requests of one endpoint, model and status."""

    __slots__ = ("_counts", "_histogram", "_requests", "_seconds")

    def __init__(self, endpoint: str, model: str, status: int) -> None:
        self._requests = _REQUESTS.labels(endpoint, model, str(status))
        own = _count_models() <= MAX_MODELS
        self._histogram = _LATENCY.labels(endpoint, model if own else ALL_MODELS)
        self._clear()

    def _clear(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)  # the last one counts slower requests
        self._seconds = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def publish(self) -> float:
        """Write the numbers, and return the seconds of all requests since the last call."""
        count, seconds = sum(self._counts), self._seconds
        if count:
            self._requests.inc(count)
            self._histogram.add(self._counts, seconds)
            self._clear()
        return seconds


class _MeanInFlight:
    """The mean number of requests in flight: their seconds, divided by the time that has passed.

    This is Little's law. A count at one moment would not do: the event loop publishes it when it
    has answered all small requests, so it would be zero at any load.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._since = perf_counter()

    def publish(self, seconds: float) -> None:
        """Write the mean.

        Args:
            seconds: Of the requests that were answered since the last call.
        """
        self._seconds += seconds
        now = perf_counter()
        if now - self._since >= _MEAN_S:
            IN_FLIGHT.set(self._seconds / (now - self._since))
            self._seconds, self._since = 0.0, now


_tallies: list[_Tally] = []
_mean_in_flight = _MeanInFlight()
_count_models: Callable[[], int] = int


def use_models(count: Callable[[], int]) -> None:
    """Tell how many models are served. All workers serve the same, so they use the same labels."""
    global _count_models
    _count_models = count


@cache
def _tally(endpoint: str, model: str, status: int) -> _Tally:
    tally = _Tally(endpoint, model, status)
    _tallies.append(tally)
    return tally


def count_request(endpoint: str, model: str, status: int, seconds: float) -> None:
    """Count one request and its duration. Call it from the event loop's thread only."""
    _tally(endpoint, model, status).add(seconds)


class _Entry(Protocol):
    """A served model, as far as it is counted."""

    @property
    def error(self) -> str | None: ...

    @property
    def versions(self) -> Mapping[str, object]: ...


_counts_models = True
_counted: dict[str, tuple[str | None, Mapping[str, object]]] = {}
"""Error and versions of each model when it was counted last."""


def count_models(this_process: bool) -> None:
    """Set whether this process counts reloads. One of the workers does: they all reload alike."""
    global _counts_models
    _counts_models = this_process


def count_reloads(models: Mapping[str, _Entry]) -> None:
    """Count the models that have changed since the last call. The first call counts none."""
    if not _counts_models:
        return
    first = not _counted
    for name, entry in models.items():
        old_error, old_versions = _counted.get(name, (None, {}))
        if not first and entry.error is not None and entry.error != old_error:
            _RELOADS.labels("refused").inc()
        elif not first and dict(entry.versions) != dict(old_versions):
            _RELOADS.labels("ok").inc()
        _counted[name] = entry.error, entry.versions


def count_error(code: str, model: str = "") -> None:
    """Count one refused request; ``model`` is empty if none was asked for, or an unknown one."""
    _ERRORS.labels(code, model).inc()


def publish() -> None:
    """Write the tallies to the files that ``/metrics`` of every worker reads."""
    _mean_in_flight.publish(sum(tally.publish() for tally in _tallies))
