"""Time single actions of the ``trpo_deploy`` on ``PYTHONPATH``, whenever a line arrives on stdin.

Uses public names only, so that it runs in old and new checkouts. Run as
``python -m harness.action_probe POLICY``; each line on stdout is a JSON object with the median time
of a call in microseconds, by function.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

from trpo_deploy import OnnxPolicy
from trpo_deploy.runtime import Session

CALLS = 1000
WARM_UP = 100


def median_time(call: Callable[[], object]) -> float:
    """Median time of a call in microseconds."""
    for _ in range(WARM_UP):
        call()
    times = np.empty(CALLS)
    for index in range(CALLS):
        start = time.perf_counter_ns()
        call()
        times[index] = time.perf_counter_ns() - start
    return float(np.median(times)) / 1e3


def main() -> None:
    """Answer each line on stdin with one measurement."""
    policy = OnnxPolicy(sys.argv[1])
    (space,) = policy.spec.observation_spaces.values()
    observation = np.random.default_rng(0).normal(size=space.shape).astype(space.dtype)
    session = Session(policy)
    session.reset()
    functions = {
        "`OnnxPolicy.predict`": lambda: policy.predict(observation),
        "`Session.act`": lambda: session.act(observation),
    }
    for _ in sys.stdin:
        times = {name: median_time(function) for name, function in functions.items()}
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
