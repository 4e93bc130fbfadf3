"""How fast the service is: against plain BentoML and against bare uvicorn, with wrk.

All servers run the same policy with one worker. For each request they are asked right after one
another, so that a busy machine is busy for all of them. Numbers are medians over the rounds;
ratios are medians of each round's ratio. Run it with ``python benchmarks/serve_speed.py``; it
needs ``wrk`` (Debian: ``apt-get install wrk``) and the extra ``serve``, and writes
``benchmarks/results/serve_speed.md`` and ``.json``. With ``--workers`` it measures what a second
worker brings, with ``--soak`` what time does to memory and errors.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.runtime.policy_files import box, write_policy  # noqa: E402
from trpo_deploy.spec.spaces import BoxSpace  # noqa: E402

RESULTS = Path(__file__).parent / "results"
FRAME = BoxSpace(np.zeros((84, 84, 4), np.uint8), np.full((84, 84, 4), 255, np.uint8))

# The same policy with as little around it as possible: nothing is checked, counted or limited.
BARE = """
import os
import numpy as np
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from trpo_deploy.runtime import OnnxPolicy

policy = OnnxPolicy(os.environ["POLICY"])
session, space = policy._session, policy.spec.observation_space

async def predict(request):
    observation = np.asarray(orjson.loads(await request.body())["observation"], np.float32)
    action = session.run(["action"], {"obs": observation[None]})[0][0]
    return Response(
        orjson.dumps({"action": action}, option=orjson.OPT_SERIALIZE_NUMPY),
        media_type="application/json",
    )

async def binary(request):
    observation = np.frombuffer(await request.body(), space.dtype).reshape(1, *space.shape)
    action = session.run(["action"], {"obs": observation})[0][0]
    return Response(action.tobytes(), media_type="application/octet-stream")

async def converse(socket):
    await socket.accept()
    async for data in socket.iter_bytes():
        observation = np.frombuffer(data, space.dtype).reshape(1, *space.shape)
        await socket.send_bytes(session.run(["action"], {"obs": observation})[0][0].tobytes())

app = Starlette(routes=[
    Route("/predict", predict, methods=["POST"]),
    Route("/binary", binary, methods=["POST"]),
    WebSocketRoute("/ws", converse),
])
uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), loop="uvloop",
            http="httptools", ws="websockets-sansio", access_log=False, log_level="error",
            ws_per_message_deflate=False)
"""

# The service's own edge without BentoML: what BentoML's service costs it.
HANDLER = """
import os
from pathlib import Path
import uvicorn
from trpo_deploy.serve.http.edge import Edge
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.settings import Settings

registry = Registry([Path(os.environ["POLICY"])])

async def nothing(scope, receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return

uvicorn.run(Edge(nothing, Settings(), lambda: registry), host="127.0.0.1",
            port=int(os.environ["PORT"]), loop="uvloop", http="httptools",
            ws="websockets-sansio", access_log=False, log_level="error", server_header=False,
            proxy_headers=False, ws_per_message_deflate=False)
"""

PLAIN_BENTOML = """
import os
import bentoml
import numpy as np
from trpo_deploy.runtime import OnnxPolicy

@bentoml.service
class Plain:
    def __init__(self) -> None:
        self.policy = OnnxPolicy(os.environ["POLICY"])
        self.space = self.policy.spec.observation_space

    @bentoml.api
    async def predict(self, observation: list[float]) -> list[float]:
        return self.policy.predict(np.asarray(observation, np.float32))[0].tolist()

    @bentoml.api
    async def frame(self, observation: list[list[list[int]]]) -> list[float]:
        return self.policy.predict(np.asarray(observation, np.uint8))[0].tolist()
"""

SERVICE = """
import os
from pathlib import Path
from trpo_deploy.serve import serve
serve([Path(os.environ["POLICY"])], port=int(os.environ["PORT"]),
      workers=int(os.environ["WORKERS"]))
"""


KINDS = {
    "service": "trpo-deploy serve",
    "handler": "the same handler on bare uvicorn",
    "bare": "bare uvicorn + Starlette route",
    "bentoml": "plain `@bentoml.api`, defaults",
}


@dataclass(frozen=True)
class Case:
    """One request, as each server takes it."""

    name: str
    policy: str
    connections: int
    paths: dict[str, str]
    bodies: dict[str, bytes]
    headers: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Load:
    """What wrk saw of one server in one round."""

    rate: float
    """Requests/s."""
    p50: float
    """Milliseconds."""
    p99: float
    """Milliseconds."""
    cpu: float = 0.0
    """Microseconds of the server's processor time for a request: the steadiest of these numbers
    on a machine with other work."""


def free_port() -> int:
    """A TCP port that nothing uses."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@dataclass(frozen=True)
class Shared:
    """What some workers made of one load, and of the cores that wrk left them."""

    rate: float
    """Requests/s."""
    cpu: float
    """Microseconds of processor time for a request."""
    cores: float
    """Processor time of all workers for a second."""
    busiest: float
    """The busiest worker's share of it."""


@contextmanager
def running(kind: str, policy: Path, folder: Path, workers: int = 1) -> Iterator[tuple[str, int]]:
    """Start one kind of server; gives its URL and pid."""
    folder.mkdir()
    port = free_port()
    code = {"bare": BARE, "handler": HANDLER, "service": SERVICE, "bentoml": PLAIN_BENTOML}[kind]
    file = folder / f"{kind}_server.py"
    file.write_text(code)
    command = [sys.executable, str(file)]
    if kind == "bentoml":
        target = f"{file.stem}:Plain"
        command = [sys.executable, "-m", "bentoml", "serve", target, "--working-dir", str(folder)]
        command += ["--host", "127.0.0.1", "--port", str(port)]
    own = {"POLICY": str(policy), "PORT": str(port), "WORKERS": str(workers)}
    own |= {"BENTOML_HOME": str(folder / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    with (folder / f"{kind}.log").open("w") as log:
        environment = {**os.environ, **own, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            wait_for(port, process, folder / f"{kind}.log")
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()
            process.wait(60)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers, a minute at most."""
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"a server ended: {log.read_text()}")
        try:
            # Not /readyz: the bare server has none, but it answers.
            httpx.get(f"http://127.0.0.1:{port}/livez", timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"a server did not start: {log.read_text()}")


def wrk(
    url: str,
    connections: int,
    seconds: int,
    body: bytes,
    headers: dict[str, str],
    pause: int = 0,
) -> Load:
    """Send one request again and again, ``pause`` milliseconds apart; read wrk's summary."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(body)
        script = Path(folder) / "request.lua"
        lines = [f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items()]
        script.write_text(
            'wrk.method = "POST"\n'
            + "\n".join(lines)
            + f'\nlocal file = io.open("{folder}/body", "rb")\nwrk.body = file:read("*all")\n'
            + (f"delay = function() return {pause} end\n" if pause else "")
            + "done = function(summary, latency, requests)\n"
            '  io.write(string.format("RESULT %d %d %f %f %d %d\\n", summary.requests,\n'
            "    summary.duration, latency:percentile(50), latency:percentile(99),\n"
            "    summary.errors.status, summary.errors.connect + summary.errors.read\n"
            "    + summary.errors.write + summary.errors.timeout))\n"
            "end\n"
        )
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
        command += ["-s", str(script), url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\S+) (\S+) (\d+) (\d+)", output)
    if found is None:
        raise SystemExit(f"wrk said: {output}")
    requests, micros, p50, p99, refused, broken = map(float, found.groups())
    if refused or broken:
        raise SystemExit(f"{url}: {refused:.0f} requests refused, {broken:.0f} broken")
    return Load(requests / micros * 1e6, p50 / 1e3, p99 / 1e3)


def cases(connections: tuple[int, ...]) -> list[Case]:
    """The requests of the table."""
    numbers = np.linspace(-1, 1, 17).astype(np.float32)
    frame = np.random.default_rng(0).integers(0, 255, FRAME.shape, np.uint8)
    as_json = {"Content-Type": "application/json"}
    text = json.dumps({"observation": [round(float(x), 6) for x in numbers]}).encode()
    rows = [
        Case(
            "JSON, 17 floats",
            "small",
            count,
            dict.fromkeys(("service", "handler", "bentoml", "bare"), "/predict"),
            dict.fromkeys(("service", "handler", "bentoml", "bare"), text),
            dict.fromkeys(("service", "handler", "bentoml", "bare"), as_json),
        )
        for count in connections
    ]
    octets = {"Content-Type": "application/octet-stream"}
    tensor = {"name": "obs", "shape": [1, 17], "datatype": "FP32"}
    tensor["parameters"] = {"binary_data_size": numbers.nbytes}
    output = {"name": "action", "parameters": {"binary_data": True}}
    v2 = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    v2_headers = {**octets, "Inference-Header-Content-Length": str(len(v2))}
    rows.append(
        Case(
            "/v2 infer, binary",
            "small",
            8,
            {"service": "/v2/models/small/infer", "bare": "/binary"},
            {"service": v2 + numbers.tobytes(), "bare": numbers.tobytes()},
            {"service": v2_headers, "bare": octets},
        )
    )
    shape = {**octets, "X-Tensor-Dtype": "uint8", "X-Tensor-Shape": "84,84,4"}
    rows.append(
        Case(
            "84x84x4 uint8 frame",
            "frame",
            8,
            {"service": "/predict", "bare": "/binary", "bentoml": "/frame"},
            {
                "service": frame.tobytes(),
                "bare": frame.tobytes(),
                "bentoml": json.dumps({"observation": frame.tolist()}).encode(),
            },
            {"service": shape, "bare": octets, "bentoml": as_json},
        )
    )
    return rows


def websocket_rate(url: str, seconds: float) -> float:
    """Round trips/s of one client that waits for each answer, with binary frames."""
    from websockets.sync.client import connect

    frame = np.linspace(-1, 1, 17).astype(np.float32).tobytes()
    with connect(url.replace("http", "ws"), compression=None) as connection:
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            connection.send(frame)
            connection.recv()
            count += 1
    return count / seconds


def cpu_seconds(pid: int) -> float:
    """Processor time that a server has used so far, with its workers."""
    return sum(cpu_of_each(pid))


def cpu_of_each(pid: int) -> list[float]:
    """Processor time that a process and each of its children have used so far."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    times = [process.cpu_times() for process in processes]
    return [time.user + time.system for time in times]


def memory(pid: int) -> float:
    """MB that are the processes' own (PSS), so that shared pages count once."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(process.memory_full_info().pss for process in processes) / 1e6


def measure(rounds: int, seconds: int, connections: tuple[int, ...]) -> dict[str, Any]:
    """All cases on all servers, which take turns."""
    loads: dict[str, dict[str, list[Load]]] = {}
    sockets: dict[str, list[Load]] = {"service": [], "bare": []}
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-speed-") as name, ExitStack() as stack:
        folder = Path(name)
        servers = start_all(folder, stack)
        for index in range(rounds):
            print(f"round {index + 1} of {rounds}", file=sys.stderr)
            for case in cases(connections):
                label = f"{case.name}, {case.connections} connections"
                # Not always in the same order: what runs after a slow server may suffer from it.
                kinds = list(case.paths)
                for kind in kinds[index % len(kinds) :] + kinds[: index % len(kinds)]:
                    target = servers[kind, case.policy][0] + case.paths[kind]
                    body, headers = case.bodies[kind], case.headers[kind]
                    if index == 0:
                        wrk(target, case.connections, 1, body, headers)  # warm
                    pid = servers[kind, case.policy][1]
                    before = cpu_seconds(pid)
                    load = wrk(target, case.connections, seconds, body, headers)
                    spent = 1e6 * (cpu_seconds(pid) - before) / (load.rate * seconds)
                    load = replace(load, cpu=spent)
                    loads.setdefault(label, {}).setdefault(kind, []).append(load)
            for kind, path in (("service", "/ws/small"), ("bare", "/ws")):
                url, pid = servers[kind, "small"]
                before = cpu_seconds(pid)
                rate = websocket_rate(url + path, seconds)
                spent = 1e6 * (cpu_seconds(pid) - before) / (rate * seconds)
                sockets[kind].append(Load(rate, 1e3 / rate, 0.0, spent))
        kinds = ("service", "bare", "bentoml")
        memories = {kind: [memory(servers[kind, "small"][1])] for kind in kinds}
    return {"loads": loads, "sockets": sockets, "memories": memories}


def measure_workers(rounds: int, seconds: int) -> dict[int, list[Shared]]:
    """One worker and two under the same load, which take turns.

    On two cores two workers share them with wrk, so the rate alone says less than what the
    workers made of the processor time that they had.
    """
    case = next(case for case in cases((64,)) if case.connections == 64)
    body, headers = case.bodies["service"], case.headers["service"]
    measured: dict[int, list[Shared]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-workers-") as name, ExitStack() as stack:
        folder = Path(name)
        policy = write_small(folder)
        servers = {
            count: stack.enter_context(running("service", policy, folder / str(count), count))
            for count in measured
        }
        for index in range(rounds):
            for count, (url, pid) in servers.items():
                if index == 0:
                    wrk(url + "/predict", case.connections, 1, body, headers)  # warm
                before = cpu_of_each(pid)
                load = wrk(url + "/predict", case.connections, seconds, body, headers)
                spent = [b - a for a, b in zip(before, cpu_of_each(pid), strict=True)]
                cores = sum(spent) / seconds
                shared = Shared(load.rate, 1e6 * cores / load.rate, cores, max(spent) / sum(spent))
                measured[count].append(shared)
    return measured


def write_small(folder: Path) -> Path:
    """The policy of the table's small requests: 17 numbers, two layers of 64, 6 numbers."""
    action = box(6, low=-1, high=1)
    return write_policy(folder / "small" / "policy.onnx", box(17), action, hidden=64)


def start_all(folder: Path, stack: ExitStack) -> dict[tuple[str, str], tuple[str, int]]:
    """URL and pid of each server, by its kind and policy; one that is not asked costs nothing."""
    frame = folder / "frame" / "policy.onnx"
    policies = {
        "small": write_small(folder),
        "frame": write_policy(frame, FRAME, box(6, low=-1, high=1), hidden=8),
    }
    return {
        (kind, name): stack.enter_context(running(kind, path, folder / f"{kind}-{name}"))
        for kind in KINDS
        for name, path in policies.items()
    }


def ratio(ours: list[Any], other: list[Any], value: Callable[[Any], float]) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(value(a) / value(b) for a, b in zip(ours, other, strict=True))


def table(measured: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    lines = [
        "| request | server | requests/s | p50 ms | p99 ms | CPU µs | rate, ours ÷ its "
        "| p99, ours ÷ its | CPU, ours ÷ its |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for label, servers in measured["loads"].items():
        lines += [
            f"| {label} | {KINDS[kind]} | {_row(servers['service'], loads)} |"
            for kind, loads in servers.items()
        ]
    sockets, memories = measured["sockets"], measured["memories"]
    lines += [
        f"| WebSocket round trips, 1 client | {KINDS[kind]} | {_row(sockets['service'], loads)} |"
        for kind, loads in sockets.items()
    ]
    lines += ["", "| memory of all processes | MB (PSS) | ours ÷ its |", "|---|---|---|"]
    for kind, sizes in memories.items():
        share = ratio(memories["service"], sizes, float)
        lines.append(f"| {KINDS[kind]} | {statistics.median(sizes):,.0f} | {share:.2f} |")
    return "\n".join(lines) + "\n"


def workers_table(measured: dict[int, list[Shared]]) -> str:
    """What a second worker brought, as Markdown."""
    lines = [
        "| workers | requests/s | CPU µs a request | cores they had | the busiest's share "
        "| rate ÷ one worker's | requests per CPU second ÷ one worker's |",
        "|---|---|---|---|---|---|---|",
    ]
    for count, rows in measured.items():
        rate, cpu, cores, busiest = (
            statistics.median(getattr(row, name) for row in rows)
            for name in ("rate", "cpu", "cores", "busiest")
        )
        growth = ratio(rows, measured[1], lambda row: row.rate)
        cost = ratio(measured[1], rows, lambda row: row.cpu)
        numbers = f"{rate:,.0f} | {cpu:.0f} | {cores:.2f} | {busiest:.2f}"
        lines.append(f"| {count} | {numbers} | {growth:.2f} | {cost:.2f} |")
    return "\n".join(lines) + "\n"


def _row(ours: list[Load], its: list[Load]) -> str:
    """The numbers of one server, and ours divided by them."""
    rate, p50, p99, cpu = (
        statistics.median(getattr(load, name) for load in its)
        for name in ("rate", "p50", "p99", "cpu")
    )
    rates = ratio(ours, its, lambda load: load.rate)
    spent = ratio(ours, its, lambda load: load.cpu)
    tail, tails = "", ""  # one client that waits for each answer has none
    if p99:
        tail, tails = f"{p99:.2f}", f"{ratio(ours, its, lambda load: load.p99):.2f}"
    return f"{rate:,.0f} | {p50:.2f} | {tail} | {cpu:.0f} | {rates:.2f} | {tails} | {spent:.2f}"


def soak(minutes: float) -> str:
    """Load the service at about half of what it can for a while; memory and errors as a line."""
    # Many clients that pause long: wrk pauses for whole milliseconds, and a few would be far off.
    clients = 64
    case = next(case for case in cases((clients,)) if case.connections == clients)
    body, headers = case.bodies["service"], case.headers["service"]
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-soak-") as name:
        folder = Path(name)
        with running("service", write_small(folder), folder / "service") as (url, pid):
            full = wrk(url + "/predict", clients, 5, body, headers)
            pause = round(1000 * clients / (full.rate / 2)) - 1  # an answer takes the rest
            sizes = []
            with ThreadPoolExecutor(1) as pool:
                seconds = round(60 * minutes)
                load = pool.submit(wrk, url + "/predict", clients, seconds, body, headers, pause)
                while not load.done():
                    time.sleep(1)
                    sizes.append(memory(pid))
            half = load.result()
    settled = sizes[len(sizes) // 10]
    return (
        f"{minutes:g} minutes at {half.rate:,.0f} requests/s (of {full.rate:,.0f} it can): no "
        f"error, p99 {half.p99:.1f} ms, memory {settled:.1f} MB after a tenth of the time and "
        f"{sizes[-1]:.1f} MB at the end.\n"
    )


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="only this, for a while")
    parser.add_argument("--workers", action="store_true", help="only one worker against two")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; on Debian: apt-get install wrk")
    RESULTS.mkdir(exist_ok=True)
    if options.soak:
        publish("serve_soak", soak(options.soak))
        return
    how = (
        f"Medians of {options.rounds} rounds of {options.seconds:g} s, %s, wrk with "
        f"one thread on the same machine: {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, shared with other work. Trust the ratios, not the "
        "absolute numbers, and those of processor time most.\n\n"
    )
    if options.workers:
        what = "JSON with 17 floats over 64 connections (the workers share the cores with wrk)"
        workers = measure_workers(options.rounds, options.seconds)
        publish("serve_workers", how % what + workers_table(workers), workers)
        return
    measured = measure(options.rounds, options.seconds, tuple(options.connections))
    publish("serve_speed", how % "one worker each" + table(measured), measured)


def publish(name: str, text: str, measured: Any = None) -> None:
    """Print a result and write it down, with the numbers that it was made of."""
    (RESULTS / f"{name}.md").write_text(text)
    if measured is not None:
        plain = json.dumps(measured, default=lambda load: load.__dict__, indent=1)
        (RESULTS / f"{name}.json").write_text(plain + "\n")
    print(text)


if __name__ == "__main__":
    main()
