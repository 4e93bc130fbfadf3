"""Request rate, latency and processor time of the service beside other servers.

All servers run the same policy with one worker:

- ``trpo-deploy serve``,
- its request handler on bare uvicorn, without BentoML,
- a plain BentoML service with default settings,
- bare uvicorn with a Starlette route that checks and counts nothing.

They take turns at each request, so that other work on the machine slows all of them. Run it with

    python benchmarks/serve_speed.py [--rounds N] [--seconds N] [--connections N ...]

It needs ``wrk`` and the extra ``serve``, and writes ``results/serve_speed.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness.http_load import (
    NUMBERS,
    Load,
    Request,
    json_request,
    require_wrk,
    small_request,
    websocket_round_trips,
    wrk,
)
from harness.http_servers import Server, bentoml_server, script_server, trpo_deploy_serve
from harness.policies import FRAME, write_frame, write_small
from harness.processes import memory
from harness.report import (
    TRUST,
    machine,
    markdown_table,
    median_of,
    median_ratio,
    write_results,
)

OURS, EDGE, BENTOML, BARE = "service", "handler", "bentoml", "bare"
NAMES = {
    OURS: "trpo-deploy serve",
    EDGE: "the same handler on bare uvicorn",
    BENTOML: "plain `@bentoml.api`, defaults",
    BARE: "bare uvicorn + Starlette route",
}
START: dict[str, Callable[[Path, Path], AbstractContextManager[Server]]] = {
    OURS: trpo_deploy_serve,
    EDGE: partial(script_server, "edge_on_uvicorn"),
    BENTOML: partial(bentoml_server, "plain_bentoml"),
    BARE: partial(script_server, "plain_uvicorn"),
}
SOCKETS = {OURS: "/ws/small", BARE: "/ws"}
OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Case:
    """One request, in the form that each server takes."""

    name: str
    policy: str
    connections: int
    requests: Mapping[str, Request]


def cases(connections: tuple[int, ...]) -> list[Case]:
    """The requests of the table."""
    small = dict.fromkeys((OURS, EDGE, BENTOML, BARE), small_request())
    frame = np.random.default_rng(0).integers(0, 255, FRAME.shape, np.uint8)
    shape = {"X-Tensor-Dtype": "uint8", "X-Tensor-Shape": "84,84,4"}
    return [
        *(Case("JSON, 17 floats", "small", count, small) for count in connections),
        Case(
            "/v2 infer, binary",
            "small",
            8,
            {OURS: binary_inference(), BARE: Request("/binary", NUMBERS.tobytes(), OCTETS)},
        ),
        Case(
            "84x84x4 uint8 frame",
            "frame",
            8,
            {
                OURS: Request("/predict", frame.tobytes(), {**OCTETS, **shape}),
                BARE: Request("/binary", frame.tobytes(), OCTETS),
                BENTOML: json_request("/frame", frame.tolist()),
            },
        ),
    ]


def binary_inference() -> Request:
    """17 floats to ``/v2`` with the binary tensor extension."""
    size = {"binary_data_size": NUMBERS.nbytes}
    tensor = {"name": "obs", "shape": [1, 17], "datatype": "FP32", "parameters": size}
    output = {"name": "action", "parameters": {"binary_data": True}}
    header = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    length = {"Inference-Header-Content-Length": str(len(header))}
    return Request("/v2/models/small/infer", header + NUMBERS.tobytes(), {**OCTETS, **length})


def measure(rounds: int, seconds: int, connections: tuple[int, ...]) -> dict[str, Any]:
    """All cases on all servers."""
    loads: dict[str, dict[str, list[Load]]] = {}
    sockets: dict[str, list[Load]] = {kind: [] for kind in SOCKETS}
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-speed-") as name, ExitStack() as stack:
        folder = Path(name)
        policies = {"small": write_small(folder), "frame": write_frame(folder)}
        servers = {
            (kind, policy): stack.enter_context(start(path, folder / f"{kind}-{policy}"))
            for kind, start in START.items()
            for policy, path in policies.items()
        }
        for index in range(rounds):
            print(f"round {index + 1} of {rounds}", file=sys.stderr)
            for case in cases(connections):
                plural = "" if case.connections == 1 else "s"
                label = f"{case.name}, {case.connections} connection{plural}"
                for kind in rotated(list(case.requests), index):
                    send = partial(
                        wrk, servers[kind, case.policy], case.requests[kind], case.connections
                    )
                    if index == 0:
                        send(1)  # warm up
                    loads.setdefault(label, {}).setdefault(kind, []).append(send(seconds))
            for kind, path in SOCKETS.items():
                round_trips = websocket_round_trips(servers[kind, "small"], path, seconds)
                sockets[kind].append(round_trips)
        memories = {kind: memory(servers[kind, "small"].pid) for kind in (OURS, BARE, BENTOML)}
    return {"loads": loads, "sockets": sockets, "memories": memories}


def rotated(kinds: list[str], index: int) -> list[str]:
    """Another order in each round: a server may suffer from the one before it."""
    return kinds[index % len(kinds) :] + kinds[: index % len(kinds)]


def report(measured: dict[str, Any]) -> str:
    """Both tables as Markdown."""
    groups = {**measured["loads"], "WebSocket round trips, 1 client": measured["sockets"]}
    header = "request|server|requests/s|p50 ms|p99 ms|CPU µs"
    header += "|rate, ours ÷ its|p99, ours ÷ its|CPU, ours ÷ its"
    rows = [
        [label, NAMES[kind], *cells(servers[OURS], loads)]
        for label, servers in groups.items()
        for kind, loads in servers.items()
    ]
    memories = measured["memories"]
    sizes = [
        [NAMES[kind], f"{size:,.0f}", f"{memories[OURS] / size:.2f}"]
        for kind, size in memories.items()
    ]
    return (
        markdown_table(header.split("|"), rows)
        + "\n"
        + markdown_table(["memory of all processes", "MB (PSS)", "ours ÷ its"], sizes)
    )


def cells(ours: list[Load], its: list[Load]) -> list[str]:
    """The numbers of one server, and ours divided by them."""
    has_tail = its[0].p99 is not None
    return [
        f"{median_of(its, lambda load: load.rate):,.0f}",
        f"{median_of(its, lambda load: load.p50):.2f}",
        f"{median_of(its, tail):.2f}" if has_tail else "",
        f"{median_of(its, lambda load: load.cpu):.0f}",
        f"{median_ratio(ours, its, lambda load: load.rate):.2f}",
        f"{median_ratio(ours, its, tail):.2f}" if has_tail else "",
        f"{median_ratio(ours, its, lambda load: load.cpu):.2f}",
    ]


def tail(load: Load) -> float:
    """p99 in milliseconds."""
    assert load.p99 is not None
    return load.p99


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="for each server and request")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    options = parser.parse_args()
    require_wrk()
    measured = measure(options.rounds, options.seconds, tuple(options.connections))
    head = (
        f"Medians of {options.rounds} rounds of {options.seconds} s, one worker each, wrk with one "
        f"thread on the same machine: {machine()}, shared with other work. {TRUST} The ratios of "
        "processor time vary least.\n\n"
    )
    write_results("serve_speed", measured, head + report(measured))


if __name__ == "__main__":
    main()
