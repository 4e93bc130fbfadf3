"""What ``trpo-deploy serve`` needs for many models: start, memory, idle time, and the list of them.

Every model gets a request before the pages are measured, so that each has its metrics. Run it with

    python benchmarks/serve_many_models.py [--models N] [--workers N]

It needs the extra ``serve``, and writes ``results/serve_many_models.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from harness.http_servers import Server, trpo_deploy_serve
from harness.policies import write_small_models
from harness.processes import cpu_seconds, memory
from harness.report import TRUST, machine, markdown_table, write_results

IDLE_S = 30
PAGES = ("/metrics", "/models", "/docs.json", "/readyz")
TIMES = 5
"""Requests of each page; the median counts."""
OBSERVATION = [0.1] * 17


@dataclass(frozen=True)
class Page:
    """One page of a service with many models."""

    seconds: float
    bytes: int


@dataclass(frozen=True)
class Measured:
    """A service with many models."""

    start: float
    """Seconds from the command until every model is listed as served."""
    memory: float
    """PSS of all processes in MB."""
    idle: float
    """Share of one core that all processes use without a request."""
    answers: float
    """Requests/s of one client that calls every model once, one after the other."""
    pages: dict[str, Page]


def measure(count: int, workers: int) -> Measured:
    """Serve a number of models and see what they cost."""
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-many-") as name:
        folder = Path(name)
        models = write_small_models(folder / "models", count)
        started = time.monotonic()
        with trpo_deploy_serve(models, folder / "service", workers=workers) as server:
            wait_until_all_are_served(server, count)
            start = time.monotonic() - started
            answers = count / call_each(server, [path.name for path in sorted(models.iterdir())])
            pages = {page: fetch(server, page) for page in PAGES}
            size = memory(server.pid)
            before = cpu_seconds(server.pid)
            time.sleep(IDLE_S)
            idle = (cpu_seconds(server.pid) - before) / IDLE_S
    return Measured(start, size, idle, answers, pages)


def wait_until_all_are_served(server: Server, count: int) -> None:
    """Wait until ``/models`` lists all models without an error."""
    ready = -1
    while ready < count:
        listed = httpx.get(f"{server.url}/models", timeout=120).json()["models"]
        ready = sum(model["error"] is None for model in listed.values())
        time.sleep(0.1)


def call_each(server: Server, names: list[str]) -> float:
    """Seconds for one request to each model, one after the other."""
    with httpx.Client(base_url=server.url, timeout=120) as client:
        started = time.perf_counter()
        for name in names:
            body = {"observation": OBSERVATION}
            client.post(f"/models/{name}/predict", json=body).raise_for_status()
        return time.perf_counter() - started


def fetch(server: Server, path: str) -> Page:
    """Fetch a page several times; the median of the times counts."""
    times, size = [], 0
    with httpx.Client(base_url=server.url, timeout=120) as client:
        client.get("/livez")  # connect
        for _ in range(TIMES):
            started = time.perf_counter()
            size = len(client.get(path).raise_for_status().content)
            times.append(time.perf_counter() - started)
    return Page(sorted(times)[TIMES // 2], size)


def report(count: int, workers: int, measured: Measured) -> str:
    """Two tables."""
    text = (
        f"{count:,} models of one layer of 64 (17 inputs, 6 outputs), {workers} workers: "
        f"{machine('onnxruntime')}, shared with other work. {TRUST}\n\n"
    )
    text += markdown_table(
        ("start, s", "memory, MB", "idle, share of a core", "requests/s, each model once"),
        [
            (
                f"{measured.start:.1f}",
                f"{measured.memory:.0f}",
                f"{measured.idle:.2f}",
                f"{measured.answers:.0f}",
            )
        ],
    )
    rows = [
        (f"`{path}`", f"{1e3 * page.seconds:.0f}", f"{page.bytes / 1e3:.0f}")
        for path, page in measured.pages.items()
    ]
    text += "\n" + markdown_table(("page", "ms", "kB"), rows)
    return text + (
        "\n*Start* ends when `/models` lists every model as served. *Memory* counts shared pages "
        f"once (PSS), over all processes. *Idle* is over {IDLE_S} s without a request.\n"
    )


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    measured = measure(options.models, options.workers)
    text = report(options.models, options.workers, measured)
    write_results("serve_many_models", measured, text)


if __name__ == "__main__":
    main()
