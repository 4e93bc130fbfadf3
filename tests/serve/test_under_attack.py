"""Good clients of a real server get right answers while others attack it."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial

import httpx
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.runtime.policy_files import OBSERVATION_SPACES, write_policy
from tests.serve.attack import Target, serving, settle, under_load
from tests.serve.hostile_files import HOSTILE_FILES, drop_hostile_file
from tests.serve.server import wait_until

pytestmark = pytest.mark.slow

GOOD = ["box", "bounded_box", "dict"]
KEY, REVOKED = "a-key-of-the-good-clients", "a-key-that-is-revoked-later"
SETTLED_MB = 100
"""Memory of two workers and their supervisor that the allocator may keep after an attack."""
PEAK_MB = 700
"""Memory that they may take during one: two workers with their limits on bytes in flight."""
ANSWERS = 200
"""Right answers that the good clients get at least, however short an attack is."""
OPEN_FILES = 4096


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("attack")
    for name in GOOD:
        write_policy(folder / "models" / name / "policy.onnx", OBSERVATION_SPACES[name])
    keys = folder / "keys"
    keys.write_text(f"{KEY}\n{REVOKED}\n")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = OPEN_FILES if limits[1] == resource.RLIM_INFINITY else min(OPEN_FILES, limits[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], more), limits[1]))
    try:
        with serving(folder / "models", keys, folder, "--workers", "2") as target:
            with under_load(target, GOOD, KEY):
                target.log.read_text()
                wait_until(lambda: False, 2)  # buffers and caches grow to their usual size
            yield target
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def head(path: str = "/predict", *lines: str) -> bytes:
    """The start of a request with a good key, without the empty line at its end."""
    start = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"authorization: Bearer {KEY}", *lines]
    return ("\r\n".join(start) + "\r\n").encode()


HANDSHAKE = head(
    "/ws/box",
    "connection: upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
).replace(b"POST", b"GET")


def answer_of(connection: socket.socket) -> bytes:
    """What the server sends until it closes; fails if it stays open or answers 5xx but 503."""
    received = b""
    with connection, suppress(ConnectionError):
        connection.settimeout(60)
        while piece := connection.recv(65536):
            received += piece
    assert not received.startswith(b"HTTP/1.1 5") or received.startswith(b"HTTP/1.1 503"), received
    return received


def open_connection(target: Target, start: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", target.port), timeout=60)
    with suppress(ConnectionError):
        connection.sendall(start)
    return connection


def flood_with_headers(target: Target) -> None:
    """Headers without an end, until the server closes."""
    piece = b"".join(b"x-%d: %d\r\n" % (n, n) for n in range(50_000))
    for kind in (head(), HANDSHAKE):
        for _ in range(3):
            connection = open_connection(target, kind)
            with suppress(ConnectionError, TimeoutError):
                for _ in range(12):
                    connection.sendall(piece)
            answer_of(connection)


def send_large_headers(target: Target) -> None:
    """Complete requests and handshakes with more and longer headers than are usual."""
    lines = [b"cookie: " + b"x" * 9_000, b"\r\n".join([b"x: y"] * 500), b"x: " + b"y" * 10**6]
    for line in lines:
        for kind in (head("/models", "connection: close"), HANDSHAKE):
            with open_connection(target, kind + line + b"\r\n\r\n") as connection:
                connection.settimeout(60)
                answer = b""
                with suppress(ConnectionError):
                    answer = connection.recv(65536)
                assert not answer.startswith(b"HTTP/1.1 5"), answer


def hold_unfinished_requests(target: Target) -> None:
    """More unfinished heads, handshakes and one-byte bodies than a worker takes requests."""
    one_byte = head("/predict", "content-type: application/json", "content-length: 90") + b"\r\n{"
    starts = [b"", b"POST /pre", head(), HANDSHAKE, *[one_byte] * 8]
    with ExitStack() as stack:
        held = [
            stack.enter_context(open_connection(target, starts[n % len(starts)]))
            for n in range(1200)
        ]
        for connection in held:
            answer_of(connection)


def hold_unfinished_bodies(target: Target) -> None:
    """Bodies of several megabytes that never end."""
    start = head("/predict", "content-type: application/json", "content-length: 8000000")
    body = start + b"\r\n" + b" " * 4_000_000
    with ExitStack() as stack:
        held = [stack.enter_context(open_connection(target, body)) for _ in range(200)]
        for connection in held:
            answer_of(connection)


def send_hostile_frames(target: Target) -> None:
    """20,000 WebSocket frames that no policy takes, many of them without waiting."""
    rng = random.Random(0)
    address = target.url.replace("http", "ws")
    sent = 0
    while sent < 20_000:
        with suppress(WebSocketException, ConnectionError):  # it may hang up on such a client
            headers = {"authorization": f"Bearer {KEY}"}
            path = f"{address}/ws/{rng.choice(GOOD)}"
            with connect(path, additional_headers=headers, compression=None) as connection:
                for _ in range(20):
                    for _ in range(50):
                        sent += 1
                        connection.send(hostile_frame(rng))
                    for _ in range(50):
                        connection.recv(60)


def hostile_frame(rng: random.Random) -> str | bytes:
    """A frame that is malformed, of another size, or not finite."""
    text = [
        "",
        "{",
        "null",
        "[" * 2000,
        json.dumps({"observation": ["x" * 2000] * 4}),
        json.dumps({"observation": [10**400, 0, 0, 0]}),
        '{"observation": [NaN, 0, 0, 0]}',
        '{"observation": [1e999, 0, 0, 0]}',
        json.dumps({"observation": [[0, 0, 0, 0]] * 100, "model": "other"}),
        json.dumps({"observation": {"obs": {"obs": 1}}, "state": "x"}),
    ]
    binary = [
        b"",
        rng.randbytes(rng.randrange(1, 400)),
        struct.pack("<4f", *[float("nan")] * 4),
        bytes(100_000),
    ]
    frames: list[str | bytes] = [*text, *binary]
    return rng.choice(frames)


ATTACKS = [
    flood_with_headers,
    send_large_headers,
    hold_unfinished_requests,
    hold_unfinished_bodies,
    send_hostile_frames,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_good_clients_do_not_notice(target: Target, attack: Callable[[Target], None]) -> None:
    workers, before = target.workers(), target.memory()
    with under_load(target, GOOD, KEY) as load:
        attack(target)
        assert wait_until(lambda: load.good >= ANSWERS, 60), load
    assert load.bad == []
    assert load.good > 10 * load.refused, load
    assert target.workers() == workers
    assert load.peak_mb < before + PEAK_MB
    after = settle(target, before + SETTLED_MB)
    assert after < before + SETTLED_MB
    assert "Traceback" not in target.log.read_text()


def test_bad_files_harm_no_other_model_and_hold_up_no_key(target: Target) -> None:
    workers, before = target.workers(), target.memory()
    with under_load(target, GOOD, KEY) as load, target.client(KEY) as client:
        for name in HOSTILE_FILES:
            drop_hostile_file(target.models, target.models / "box", name)
        wait_until(lambda: False, 5)
        assert statuses(target, REVOKED) == {200}
        target.keys.write_text(f"{KEY}\n")
        assert wait_until(lambda: statuses(target, REVOKED) == {401})
        write_policy(target.models / "new" / "policy.onnx")
        body = {"observation": [1, 2, 3, 4], "model": "new"}
        assert wait_until(lambda: client.post("/predict", json=body).status_code == 200, 60)
        assert client.get("/docs.json").status_code == 200
        states = client.get("/models").json()["models"]
    assert load.bad == []
    assert target.workers() == workers
    assert {name: states[name]["error"] for name in GOOD} == dict.fromkeys(GOOD)
    assert settle(target, before + SETTLED_MB) < before + SETTLED_MB
    log = target.log.read_text().splitlines()
    assert not [line for line in log if "Traceback" in line]
    for name in HOSTILE_FILES:
        lines = [line for line in log if name in line]
        refused = states.get(name, {"error": "no such model"})["error"] is not None
        # One line, or one for each process that looks at the folder.
        assert refused <= len(lines) <= 2, lines


def statuses(target: Target, key: str) -> set[int]:
    """Statuses of requests over new connections, which reach all workers."""
    headers = {"authorization": f"Bearer {key}"}
    url = f"{target.url}/models"
    return {httpx.get(url, headers=headers, timeout=60).status_code for _ in range(8)}


def test_a_killed_worker_is_replaced_beside_bad_files(target: Target) -> None:
    with under_load(target, GOOD, KEY) as load, target.client(KEY) as client:
        for _ in range(3):
            victim = min(target.workers())
            os.kill(victim, signal.SIGKILL)
            assert wait_until(partial(replaced, target, victim), 30)
        assert client.get("/readyz").status_code == 200
    # A request that the killed worker had is lost; nothing else is.
    assert len(load.bad) <= 3 * 4, load.bad
    assert not [text for text in load.bad if text[0].isdigit()]
    assert load.good > 100


def replaced(target: Target, pid: int) -> bool:
    """Whether two workers run, and a killed one is not among them."""
    workers = target.workers()
    return len(workers) == 2 and pid not in workers and answers(target)


def answers(target: Target) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{target.url}/livez", timeout=60).status_code == 200
    return False
