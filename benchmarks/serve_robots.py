"""How many robots a worker of ``trpo-deploy serve`` serves, and what a formula says about it.

Fleets of robots that ask for an action 50 times a second, by HTTP and by WebSocket, take turns on
one worker and on two. The load of a worker is compared with the formula of ``docs/scale.md``::

    load of a worker = robots x rate x processor time of a request / workers

Its only measured number is the processor time of a request, that of the smallest fleet on one
worker. The second table says how many workers larger fleets need. Run it with

    python benchmarks/serve_robots.py [--rounds N] [--seconds N]

It needs ``wrk`` and the extra ``serve``, and writes ``results/serve_robots.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from harness.http_load import Load, require_wrk, small_request, websocket_robots, wrk
from harness.http_servers import Server, trpo_deploy_serve
from harness.policies import write_small
from harness.report import TRUST, machine, markdown_table, median_of, write_results

from trpo_deploy.serve.bundles.kubernetes.workload import LOAD
from trpo_deploy.serve.metrics import METRICS_PATH

PAUSE_MS = 20
"""A robot asks 50 times a second, less the time that an answer takes."""
FLEETS = {"HTTP": (25, 50, 100), "WebSocket": (25, 50)}
WORKERS = 1, 2
PLANNED_ROBOTS, PLANNED_RATES = (10, 100, 1000, 10_000), (10, 50, 200)


@dataclass(frozen=True)
class Fleet:
    """One fleet on a number of workers, over all rounds."""

    transport: str
    workers: int
    robots: int
    rounds: list[Load]
    in_flight: list[float]
    """Requests in flight of the service in each round, as an autoscaler sees them."""

    @property
    def rate(self) -> float:
        """Requests/s."""
        return median_of(self.rounds, lambda row: row.rate)

    @property
    def cpu(self) -> float:
        """Microseconds of processor time for a request."""
        return median_of(self.rounds, lambda row: row.cpu)

    @property
    def load(self) -> float:
        """Measured load of a worker."""
        return median_of(self.rounds, lambda row: 1e-6 * row.rate * row.cpu / self.workers)


def load_of_worker(rate: float, cpu: float, workers: int) -> float:
    """The formula: the share of a core that each worker uses.

    Args:
        rate: Requests/s of all robots.
        cpu: Microseconds of processor time for a request.
        workers: Number of workers.
    """
    return 1e-6 * rate * cpu / workers


def workers_for(rate: float, cpu: float) -> int:
    """The formula solved for the number of workers, each with at most the planned load."""
    return math.ceil(load_of_worker(rate, cpu, 1) / LOAD)


def measure(rounds: int, seconds: int) -> list[Fleet]:
    """All fleets on all numbers of workers, in turn."""
    send: dict[str, Callable[[Server, int], Load]] = {
        "HTTP": lambda server, robots: wrk(server, small_request(), robots, seconds, PAUSE_MS),
        "WebSocket": lambda server, robots: websocket_robots(
            server, "/ws/small", robots, seconds, PAUSE_MS
        ),
    }
    fleets = [
        Fleet(transport, workers, robots, [], [])
        for transport, sizes in FLEETS.items()
        for robots in sizes
        for workers in WORKERS
    ]
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-robots-") as name, ExitStack() as stack:
        policy = write_small(Path(name))
        servers = {
            count: stack.enter_context(
                trpo_deploy_serve(policy, Path(name, str(count)), workers=count)
            )
            for count in WORKERS
        }
        for server in servers.values():
            wrk(server, small_request(), 8, 1)  # warm up
        for _ in range(rounds):
            for fleet in fleets:
                server = servers[fleet.workers]
                before, start = request_seconds(server), time.perf_counter()
                fleet.rounds.append(send[fleet.transport](server, fleet.robots))
                elapsed = time.perf_counter() - start
                fleet.in_flight.append((request_seconds(server) - before) / elapsed)
    return fleets


def request_seconds(server: Server) -> float:
    """The seconds of all requests so far; their growth in a second is the mean in flight."""
    time.sleep(1.1)  # the metrics are up to a second old
    with urlopen(server.url + METRICS_PATH) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith("trpo_deploy_request_seconds_sum")
    )


def cpu_by_transport(fleets: list[Fleet]) -> dict[str, float]:
    """The number that the formula takes, by transport. Larger fleets need less for a request."""
    return {
        transport: next(
            each.cpu
            for each in fleets
            if (each.transport, each.workers, each.robots) == (transport, 1, sizes[0])
        )
        for transport, sizes in FLEETS.items()
    }


def measured_table(fleets: list[Fleet]) -> str:
    """A row for each fleet: what was measured, and what the formula says."""
    cpu = cpu_by_transport(fleets)
    header = "robots|by|workers|requests/s|p50 ms|p99 ms|CPU µs a request"
    header += "|load of a worker|by the formula|in flight per worker"
    return markdown_table(
        header.split("|"),
        [
            [
                str(fleet.robots),
                fleet.transport,
                str(fleet.workers),
                f"{fleet.rate:,.0f}",
                f"{median_of(fleet.rounds, lambda row: row.p50):.1f}",
                f"{median_of(fleet.rounds, lambda row: row.p99 or 0.0):.1f}",
                f"{fleet.cpu:.0f}",
                f"{fleet.load:.2f}",
                f"{load_of_worker(fleet.rate, cpu[fleet.transport], fleet.workers):.2f}",
                f"{median_of(fleet.in_flight, float) / fleet.workers:.2f}",
            ]
            for fleet in fleets
        ],
    )


def plan_table(cpu: float) -> str:
    """Workers by the number of robots and their rate."""
    return markdown_table(
        ["robots", *(f"{rate} actions/s each" for rate in PLANNED_RATES)],
        [
            [f"{robots:,}", *(f"{workers_for(robots * rate, cpu):,}" for rate in PLANNED_RATES)]
            for robots in PLANNED_ROBOTS
        ],
    )


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="for each fleet")
    options = parser.parse_args()
    require_wrk()
    fleets = measure(options.rounds, options.seconds)
    cpu = cpu_by_transport(fleets)
    head = (
        f"Medians of {options.rounds} rounds of {options.seconds} s, 17 floats a request, mean "
        f"pause {PAUSE_MS} ms, the robots on the same machine (for WebSocket in Python, which adds "
        f"to the latency): {machine()}, shared with other work. {TRUST}\n\n"
    )
    plan = (
        f"\nWorkers for robots by HTTP, at {cpu['HTTP']:.0f} µs a request and a load of at most "
        f"{LOAD:.0%}:\n\n"
    )
    text = head + measured_table(fleets) + plan + plan_table(cpu["HTTP"])
    write_results("serve_robots", fleets, text)


if __name__ == "__main__":
    main()
