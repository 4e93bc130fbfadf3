"""Load on a server: HTTP requests with wrk, round trips over a WebSocket."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.http_servers import Server
from harness.processes import cpu_seconds

NUMBERS = np.linspace(-1, 1, 17).astype(np.float32)
"""The observation of the small requests."""


@dataclass(frozen=True)
class Request:
    """A POST request."""

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """What one server did in one round."""

    rate: float
    """Requests/s."""
    p50: float
    """Milliseconds."""
    p99: float | None
    """Milliseconds; None where it was not measured."""
    cpu: float
    """The server's processor time for a request, in microseconds. It varies less than the others
    on a machine with other work."""


def json_request(path: str, observation: object) -> Request:
    """An observation as the body of ``/predict``."""
    body = json.dumps({"observation": observation}).encode()
    return Request(path, body, {"Content-Type": "application/json"})


def small_request() -> Request:
    """17 floats as JSON to ``/predict``."""
    return json_request("/predict", [round(float(number), 6) for number in NUMBERS])


def require_wrk() -> None:
    """Exit unless wrk is installed."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; on Debian: apt-get install wrk")


def wrk(
    server: Server, request: Request, connections: int, seconds: int, pause_ms: int = 0
) -> Load:
    """Send one request again and again over each connection.

    Args:
        server: the target.
        request: the request to repeat.
        connections: open connections, each with one request in flight.
        seconds: how long.
        pause_ms: mean pause of a connection between two requests, in milliseconds. It is drawn
            uniformly from zero to twice this, so that connections do not stay in step.

    Raises:
        SystemExit: a request failed.
    """
    before = cpu_seconds(server.pid)
    with tempfile.TemporaryDirectory() as folder:
        script = _script(Path(folder), request, pause_ms)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
        command += ["-s", str(script), server.url + request.path]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\S+) (\S+) (\d+) (\d+)", output)
    if found is None:
        raise SystemExit(f"wrk printed no result: {output}")
    requests, micros, p50, p99, refused, broken = map(float, found.groups())
    if refused or broken:
        raise SystemExit(
            f"{server.url}{request.path}: {refused:.0f} requests refused, {broken:.0f} broken"
        )
    cpu = 1e6 * (cpu_seconds(server.pid) - before) / requests
    return Load(requests / micros * 1e6, p50 / 1e3, p99 / 1e3, cpu)


def _script(folder: Path, request: Request, pause_ms: int) -> Path:
    """The Lua script that tells wrk what to send and what to print."""
    (folder / "body").write_bytes(request.body)
    lines = ['wrk.method = "POST"']
    lines += [f'wrk.headers["{key}"] = "{value}"' for key, value in request.headers.items()]
    lines += [f'wrk.body = io.open("{folder}/body", "rb"):read("*all")']
    if pause_ms:
        lines += [f"delay = function() return math.random(0, {2 * pause_ms}) end"]
    lines += [
        "done = function(summary, latency, requests)",
        "  local errors = summary.errors",
        '  io.write(string.format("RESULT %d %d %f %f %d %d\\n", summary.requests,',
        "    summary.duration, latency:percentile(50), latency:percentile(99), errors.status,",
        "    errors.connect + errors.read + errors.write + errors.timeout))",
        "end",
    ]
    script = folder / "request.lua"
    script.write_text("\n".join(lines) + "\n")
    return script


def websocket_round_trips(server: Server, path: str, seconds: float) -> Load:
    """One client that sends a binary frame and waits for the answer."""
    from websockets.sync.client import connect

    frame = NUMBERS.tobytes()
    with connect(server.url.replace("http", "ws") + path, compression=None) as connection:
        before, count, end = cpu_seconds(server.pid), 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            connection.send(frame)
            connection.recv()
            count += 1
    cpu = 1e6 * (cpu_seconds(server.pid) - before) / count
    return Load(count / seconds, 1e3 * seconds / count, None, cpu)


def websocket_robots(server: Server, path: str, robots: int, seconds: float, pause_ms: int) -> Load:
    """Robots that each send a binary frame, wait for the answer, and pause.

    The latencies are those of a client in Python, which is slower than the server.

    Args:
        server: the target.
        path: path of the WebSocket.
        robots: open WebSockets.
        seconds: how long.
        pause_ms: mean pause between an answer and the next frame, in milliseconds.
    """
    times = asyncio.run(_websocket_robots(server, path, robots, seconds, pause_ms))
    found, spent = np.asarray(times.latencies), times.server_cpu
    p50, p99 = 1e3 * np.percentile(found, (50, 99))
    return Load(len(found) / seconds, float(p50), float(p99), 1e6 * spent / len(found))


@dataclass
class _Times:
    latencies: list[float] = field(default_factory=list)
    """Seconds of each round trip."""
    server_cpu: float = 0.0
    """Processor seconds of the server."""


async def _websocket_robots(
    server: Server, path: str, robots: int, seconds: float, pause_ms: int
) -> _Times:
    from websockets.asyncio.client import ClientConnection, connect

    times, frame, pauses = _Times(), NUMBERS.tobytes(), random.Random(0)
    address = server.url.replace("http", "ws") + path

    async def run(connection: ClientConnection, end: float) -> None:
        while time.perf_counter() < end:
            await asyncio.sleep(pauses.uniform(0, 2e-3 * pause_ms))
            start = time.perf_counter()
            await connection.send(frame)
            await connection.recv()
            times.latencies.append(time.perf_counter() - start)

    connections = [await connect(address, compression=None) for _ in range(robots)]
    before, end = cpu_seconds(server.pid), time.perf_counter() + seconds
    await asyncio.gather(*(run(each, end) for each in connections))
    times.server_cpu = cpu_seconds(server.pid) - before
    await asyncio.gather(*(each.close() for each in connections))
    return times
