"""No WebSocket client makes the service fail, log a traceback, grow, or starve other clients."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.protocols.raw_websocket import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    frame,
    open_socket,
    receive_all,
)
from tests.serve.server import Server, running

OBSERVATION = bytes(16)
JSON = b'{"observation": [1, 2, 3, 4]}'
CONTINUATION = 0x80


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own: its log has what these tests cause."""
    folder = tmp_path_factory.mktemp("lone")
    write_policy(folder / "box" / "policy.onnx")
    with running(folder / "box") as server:
        yield server
        assert log(server) == "stopped\n"


def log(server: Server) -> str:
    """End a server and return what it printed since it started."""
    server.process.terminate()
    assert server.process.stdout is not None
    return server.process.stdout.read()


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(TEXT & 0x7F, b"\xc3") + frame(CONTINUATION, b"("), 1007),
        (frame(BINARY, OBSERVATION, mask=False), 1002),
        (frame(0x83, b""), 1002),
        (frame(0x8B, b""), 1002),
        (frame(BINARY | 0x40, OBSERVATION), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(BINARY & 0x7F, b"x") + frame(BINARY, OBSERVATION), 1002),
        (frame(PING & 0x7F, b"x"), 1002),
        (frame(PING, bytes(126)), 1002),
        (frame(CLOSE, b"x"), 1002),
        (frame(CLOSE, b"\x03\xed"), 1002),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        (frame(BINARY, bytes(9 * 1024 * 1024))[:4096], 1009),
        (frame(BINARY & 0x7F, bytes(8 * 1024 * 1024)) + frame(CONTINUATION, b"x"), 1009),
        (frame(CLOSE, b"\x03\xe8"), 1000),
    ],
)
@pytest.mark.parametrize("before", [b"", frame(BINARY, OBSERVATION) * 50])
def test_a_protocol_error_closes_the_connection_with_its_code(
    lone: Server, frames: bytes, code: int, before: bytes
) -> None:
    with open_socket(lone.websocket_url("box")) as connection:
        connection.sendall(before + frames)
        received = receive_all(connection)
    assert code.to_bytes(2, "big") in received[-128:], received[-128:]


def hostile(rng: random.Random) -> bytes:
    """One frame: good, garbage of right form, or a violation of the protocol."""
    kind = rng.randrange(20)
    payload = rng.randbytes(rng.choice([0, 1, 8, 15, 16, 17, 32, 100, 125, 126, 1000, 70000]))
    if kind < 6:
        return frame(BINARY, rng.choice([OBSERVATION, payload]))
    if kind < 12:
        text = bytearray(rng.choice([JSON, b'{"reset": true}', b"[" * 2000, b"{}", b"NaN", b'"x"']))
        if text and rng.random() < 0.5:
            text[rng.randrange(len(text))] = rng.randrange(128)
        return frame(TEXT, bytes(text))
    if kind < 14:
        return frame(rng.choice([PING, 0x8A]), payload[:125])
    if kind < 16:
        return frame(BINARY & 0x7F, payload) + frame(PING) + frame(CONTINUATION, payload)
    if kind < 19 or rng.random() < 0.7:
        return frame(rng.choice([TEXT, BINARY]), JSON)
    return rng.choice(
        [
            frame(TEXT, payload),
            frame(rng.randrange(256), payload),
            frame(rng.randrange(256), payload, mask=False),
            frame(CLOSE, payload[:125]),
            rng.randbytes(rng.randrange(1, 20)),
        ]
    )


def test_20_000_hostile_frames_change_nothing(lone: Server) -> None:
    rng = random.Random(0)
    (worker,) = lone.workers()
    memory = worker.memory_info().rss
    for _ in range(500):
        with open_socket(lone.websocket_url("box")) as connection, suppress(OSError):
            connection.sendall(b"".join(hostile(rng) for _ in range(40)))
            if rng.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.05)
            connection.recv(1 << 16)
    assert lone.workers() == [worker]
    assert lone.predict([1, 2, 3, 4]).status_code == 200
    statuses = lone.client.get("/metrics").text
    assert 'status="500"' not in statuses
    assert (
        worker.memory_info().rss < memory + 50e6
    )  # a few connections' buffers, and allocator slack


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("kind", ["good", "empty", "ping", "fragment"])
def test_a_flooding_client_neither_starves_others_nor_takes_memory(
    lone: Server, kind: str, reads: bool
) -> None:
    flood = {
        "good": frame(BINARY, OBSERVATION),
        "empty": frame(BINARY),
        "ping": frame(PING),
        "fragment": frame(0),
    }[kind] * 20_000
    (worker,) = lone.workers()
    memory = worker.memory_info().rss
    stop = threading.Event()

    connection = open_socket(lone.websocket_url("box"))
    connection.settimeout(0.2)
    if kind == "fragment":
        connection.sendall(frame(BINARY & 0x7F))

    def repeat(action: Callable[[], object]) -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                action()

    actions: list[Callable[[], object]] = [lambda: connection.send(flood)]
    if reads:
        actions.append(lambda: connection.recv(1 << 20))
    threads = [threading.Thread(target=repeat, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        started = time.monotonic()
        for _ in range(50):
            assert lone.predict([1, 2, 3, 4]).status_code == 200
        # 0.1 s on two quiet cores, 0.5 s for pings; minutes if the worker handles what it read
        # at once.
        assert time.monotonic() - started < 15
        assert worker.memory_info().rss < memory + 50e6
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        connection.close()


def test_frames_are_answered_in_order_beside_a_flood_of_ones_own(lone: Server) -> None:
    kinds = [BINARY if number % 3 else TEXT for number in range(5000)]
    frames = {BINARY: frame(BINARY, OBSERVATION), TEXT: frame(TEXT, JSON)}
    with open_socket(lone.websocket_url("box")) as connection:
        flood = b"".join(frames[kind] for kind in kinds)
        sender = threading.Thread(target=connection.sendall, args=(flood,))
        sender.start()
        answers = connection.makefile("rb")
        for kind in kinds:
            first, size = answers.read(2)
            assert first == kind
            answers.read(size)
        sender.join()


def test_a_client_that_disappears_leaves_nothing(lone: Server) -> None:
    for _ in range(50):
        connection = open_socket(lone.websocket_url("box"))
        connection.sendall(frame(BINARY, OBSERVATION) * 1000)
        connection.close()
    assert lone.predict([1, 2, 3, 4]).status_code == 200
