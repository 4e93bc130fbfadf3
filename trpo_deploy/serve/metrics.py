"""Prometheus metrics of the hot endpoints; BentoML's ``/metrics`` shows them with its own.

Labels take values out of small sets only (endpoints, served models, statuses, error codes), so
no client can make the metrics grow.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from prometheus_client import Counter, Histogram

# Seconds. A small policy answers within the first few, a batch of images within the last.
_BUCKETS = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)

_REQUESTS = Counter("trpo_deploy_requests", "Answered requests", ["endpoint", "model", "status"])
_ERRORS = Counter("trpo_deploy_errors", "Refused requests by kind", ["code"])
_LATENCY = Histogram(
    "trpo_deploy_request_seconds",
    "Time from the request's headers to the answer",
    ["endpoint", "model"],
    buckets=_BUCKETS,
)


@cache
def _children(endpoint: str, model: str, status: int) -> tuple[Any, Any]:
    return (
        _REQUESTS.labels(endpoint, model, str(status)).inc,
        _LATENCY.labels(endpoint, model).observe,
    )


def count_request(endpoint: str, model: str, status: int, seconds: float) -> None:
    """Count one answer and its time."""
    increment, observe = _children(endpoint, model, status)
    increment()
    observe(seconds)


def count_error(code: str) -> None:
    """Count one refusal by its kind."""
    _ERRORS.labels(code).inc()
