"""gRPC beside HTTP: rate, latency and processor time of the Open Inference Protocol.

One worker of ``trpo-deploy serve`` answers the same observation of 17 floats as raw tensors, over

- HTTP: ``POST /v2/models/small/infer``,
- gRPC: ``ModelInfer``,
- a gRPC stream: ``ModelStreamInfer``.

They take turns within a round, so that other work on the machine slows all of them. The clients are
threads of this process with a connection each, which send prepared bytes and wait for the answer.
Run it with

    python benchmarks/serve_grpc.py [--rounds N] [--seconds N] [--clients N ...]

It needs the extra ``serve`` and writes ``results/serve_grpc.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import numpy as np
from harness.http_load import NUMBERS, Load
from harness.http_servers import free_port, trpo_deploy_serve
from harness.policies import write_small
from harness.processes import cpu_seconds
from harness.report import (
    TRUST,
    machine,
    markdown_table,
    median_of,
    median_ratio,
    write_results,
)

from trpo_deploy.serve.protocols.inference_v2.messages import MESSAGES

SERVICE = "/inference.GRPCInferenceService"
HTTP, UNARY, STREAM = "HTTP /v2", "gRPC", "gRPC stream"
Call: TypeAlias = Callable[[], object]
"""Sends a request and waits for the answer."""


@contextmanager
def http_client(address: str) -> Iterator[Call]:
    """A connection of HTTP."""
    size = {"binary_data_size": NUMBERS.nbytes}
    tensor = {"name": "obs", "shape": [1, 17], "datatype": "FP32", "parameters": size}
    output = {"name": "action", "parameters": {"binary_data": True}}
    header = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    body = header + NUMBERS.tobytes()
    headers = {"Inference-Header-Content-Length": str(len(header))}
    connection = HTTPConnection(address)

    def call() -> bytes:
        connection.request("POST", "/v2/models/small/infer", body, headers)
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data
        return data

    yield call
    connection.close()


def message() -> bytes:
    """The request of gRPC."""
    request = MESSAGES["InferRequest"](model_name="small", raw_input_contents=[NUMBERS.tobytes()])
    request.inputs.add(name="obs", datatype="FP32", shape=[1, 17])
    data: bytes = request.SerializeToString()
    return data


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A channel with a connection of its own."""
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


@contextmanager
def unary_client(address: str) -> Iterator[Call]:
    """A connection of gRPC with one call for each request."""
    with connected(address) as channel:
        infer, data = channel.unary_unary(f"{SERVICE}/ModelInfer"), message()
        yield lambda: infer(data)


@contextmanager
def stream_client(address: str) -> Iterator[Call]:
    """A stream of gRPC."""
    data, requests = message(), queue.SimpleQueue[bytes | None]()
    with connected(address) as channel:
        replies = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")(iter(requests.get, None))

        def call() -> object:
            requests.put(data)
            return next(replies)

        yield call
        requests.put(None)


CLIENTS = {HTTP: http_client, UNARY: unary_client, STREAM: stream_client}


def load(kind: str, address: str, pid: int, clients: int, seconds: float) -> Load:
    """Let clients send one request after another."""
    times: list[float] = []
    ready = threading.Barrier(clients + 1)

    def run() -> None:
        own = []
        with CLIENTS[kind](address) as call:
            call()
            ready.wait()
            end = time.perf_counter() + seconds
            while (start := time.perf_counter()) < end:
                call()
                own.append(time.perf_counter() - start)
        times.extend(own)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    before = cpu_seconds(pid)
    for thread in threads:
        thread.join()
    cpu = 1e6 * (cpu_seconds(pid) - before) / len(times)
    p50, p99 = 1e3 * np.percentile(times, [50, 99])
    return Load(len(times) / seconds, float(p50), float(p99), cpu)


def measure(rounds: int, seconds: float, counts: list[int]) -> dict[int, dict[str, list[Load]]]:
    """All rounds, by the number of clients and the protocol."""
    measured: dict[int, dict[str, list[Load]]] = {n: {kind: [] for kind in CLIENTS} for n in counts}
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-grpc-") as name:
        folder, port = Path(name), free_port()
        options = ("--grpc-port", str(port))
        with trpo_deploy_serve(write_small(folder), folder / "log", options=options) as server:
            grpc_address = f"127.0.0.1:{port}"
            addresses = {HTTP: server.url.removeprefix("http://")}
            kinds = list(CLIENTS)
            for index in range(-1, rounds):  # the first one warms up
                print(f"round {index + 1} of {rounds}", file=sys.stderr)
                for count in counts:
                    for kind in kinds[index % 3 :] + kinds[: index % 3]:
                        address = addresses.get(kind, grpc_address)
                        length = 0.5 if index < 0 else seconds
                        one = load(kind, address, server.pid, count, length)
                        if index >= 0:
                            measured[count][kind].append(one)
    return measured


def report(measured: dict[int, dict[str, list[Load]]]) -> str:
    """A row for each number of clients and protocol."""
    header = "clients|protocol|requests/s|p50 ms|p99 ms|CPU µs|p50 ÷ HTTP's|CPU ÷ HTTP's"
    rows = [
        [
            str(count),
            kind,
            f"{median_of(loads, lambda load: load.rate):,.0f}",
            f"{median_of(loads, lambda load: load.p50):.2f}",
            f"{median_of(loads, lambda load: load.p99 or 0):.2f}",
            f"{median_of(loads, lambda load: load.cpu):.0f}",
            f"{median_ratio(loads, kinds[HTTP], lambda load: load.p50):.2f}",
            f"{median_ratio(loads, kinds[HTTP], lambda load: load.cpu):.2f}",
        ]
        for count, kinds in measured.items()
        for kind, loads in kinds.items()
    ]
    return markdown_table(header.split("|"), rows)


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3, help="for each protocol")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    measured = measure(options.rounds, options.seconds, options.clients)
    head = (
        f"Medians of {options.rounds} rounds of {options.seconds:g} s: one worker, 17 floats as "
        "raw tensors, clients in threads of one Python process on the same machine: "
        f"{machine('grpcio')}, shared with other work. {TRUST} The ratios of processor time vary "
        "least.\n\n"
    )
    write_results("serve_grpc", measured, head + report(measured))


if __name__ == "__main__":
    main()
