"""What a second worker of ``trpo-deploy serve`` adds.

One worker and two take turns under the same load: JSON with 17 floats over 64 connections. On two
cores the workers share the cores with wrk. So the requests for each second of processor time say
more than the rate. Run it with

    python benchmarks/serve_workers.py [--rounds N] [--seconds N]

It needs ``wrk`` and the extra ``serve``, and writes ``results/serve_workers.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness.http_load import require_wrk, small_request, wrk
from harness.http_servers import Server, trpo_deploy_serve
from harness.policies import write_small
from harness.processes import cpu_of_each
from harness.report import (
    TRUST,
    machine,
    markdown_table,
    median_of,
    median_ratio,
    write_results,
)

CONNECTIONS = 64


@dataclass(frozen=True)
class Shared:
    """One round of a number of workers."""

    rate: float
    """Requests/s."""
    cpu: float
    """Microseconds of processor time for a request."""
    cores: float
    """Processor time of all workers for each second."""
    busiest: float
    """The busiest worker's share of that processor time."""


def measure(rounds: int, seconds: int) -> dict[int, list[Shared]]:
    """All rounds, by the number of workers."""
    measured: dict[int, list[Shared]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-workers-") as name, ExitStack() as stack:
        folder = Path(name)
        policy = write_small(folder)
        servers = {
            count: stack.enter_context(
                trpo_deploy_serve(policy, folder / str(count), workers=count)
            )
            for count in measured
        }
        for server in servers.values():
            wrk(server, small_request(), CONNECTIONS, 1)  # warm up
        for _ in range(rounds):
            for count, server in servers.items():
                measured[count].append(one_round(server, seconds))
    return measured


def one_round(server: Server, seconds: int) -> Shared:
    """Load one server and see how its processes shared the work."""
    before = cpu_of_each(server.pid)
    load = wrk(server, small_request(), CONNECTIONS, seconds)
    spent = [b - a for a, b in zip(before, cpu_of_each(server.pid), strict=True)]
    cores = sum(spent) / seconds
    return Shared(load.rate, 1e6 * cores / load.rate, cores, max(spent) / sum(spent))


def report(measured: dict[int, list[Shared]]) -> str:
    """A row for each number of workers."""
    header = "workers|requests/s|CPU µs a request|cores used|the busiest's share"
    header += "|rate ÷ one worker's|requests per CPU second ÷ one worker's"
    one = measured[1]
    return markdown_table(
        header.split("|"),
        [
            [
                str(count),
                f"{median_of(rows, lambda row: row.rate):,.0f}",
                f"{median_of(rows, lambda row: row.cpu):.0f}",
                f"{median_of(rows, lambda row: row.cores):.2f}",
                f"{median_of(rows, lambda row: row.busiest):.2f}",
                f"{median_ratio(rows, one, lambda row: row.rate):.2f}",
                f"{median_ratio(one, rows, lambda row: row.cpu):.2f}",
            ]
            for count, rows in measured.items()
        ],
    )


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2, help="for each number of workers")
    options = parser.parse_args()
    require_wrk()
    measured = measure(options.rounds, options.seconds)
    head = (
        f"Medians of {options.rounds} rounds of {options.seconds} s, JSON with 17 floats over "
        f"{CONNECTIONS} connections, wrk with one thread on the same machine (the workers share "
        f"its cores): {machine()}, shared with other work. {TRUST} The ratios of processor time "
        "vary least.\n\n"
    )
    write_results("serve_workers", measured, head + report(measured))


if __name__ == "__main__":
    main()
