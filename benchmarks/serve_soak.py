"""Memory and errors of ``trpo-deploy serve`` under half of its highest rate, for a while.

Run it with

    python benchmarks/serve_soak.py [--minutes N]

It needs ``wrk`` and the extra ``serve``, and writes ``results/serve_soak.md`` and ``.json`` (memory
in MB, one value a second).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.http_load import Load, require_wrk, small_request, wrk
from harness.http_servers import Server, trpo_deploy_serve
from harness.policies import write_small
from harness.processes import memory
from harness.report import write_results

CONNECTIONS = 64
"""Many clients with long pauses: wrk pauses for whole milliseconds, which is coarse for a few."""


def measure(server: Server, minutes: float) -> tuple[Load, Load, list[float]]:
    """The load at full rate, the load at half of it, and the memory during the latter in MB."""
    full = wrk(server, small_request(), CONNECTIONS, 5)
    pause = round(1000 * CONNECTIONS / (full.rate / 2)) - 1  # the answer takes the rest
    sizes = []
    with ThreadPoolExecutor(1) as pool:
        half = pool.submit(
            wrk, server, small_request(), CONNECTIONS, round(60 * minutes), pause_ms=pause
        )
        while not half.done():
            time.sleep(1)
            sizes.append(memory(server.pid))
    return full, half.result(), sizes


def report(minutes: float, full: Load, half: Load, sizes: list[float]) -> str:
    """One line."""
    settled = sizes[len(sizes) // 10]
    return (
        f"{minutes:g} minutes at {half.rate:,.0f} requests/s (highest rate: {full.rate:,.0f}): no "
        f"error, p99 {half.p99:.1f} ms, memory {settled:.1f} MB after a tenth of the time and "
        f"{sizes[-1]:.1f} MB at the end.\n"
    )


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    minutes = parser.parse_args().minutes
    require_wrk()
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-soak-") as name:
        folder = Path(name)
        with trpo_deploy_serve(write_small(folder), folder / "service") as server:
            full, half, sizes = measure(server, minutes)
    values = {"full": full, "half": half, "memory_mb": sizes}
    write_results("serve_soak", values, report(minutes, full, half, sizes))


if __name__ == "__main__":
    main()
