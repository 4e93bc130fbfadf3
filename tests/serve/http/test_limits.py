"""Limits on what one client may use."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest
from websockets.sync.client import connect

from tests.runtime.policy_files import write_policy
from tests.serve.http.guarded import FIRST, HALF_BODY, Guarded, bearer, connect_raw
from tests.serve.server import Server, running, wait_until

MIB = 1024 * 1024
HANDSHAKE = (
    b"GET /ws/cart?batch=true HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\n"
    b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def test_an_overloaded_worker_refuses_at_once_and_still_answers_health(guarded: Guarded) -> None:
    server = guarded.server
    request = b"GET /docs.json HTTP/1.1\r\nhost: localhost\r\nx-api-key: %s\r\n\r\n"
    # The description is made in a thread; of 50 at a time, two are in flight.
    connections = [connect_raw(server, b"") for _ in range(50)]
    for connection in connections:
        connection.sendall(request % FIRST.encode())
    assert server.client.get("/livez").status_code == 200
    answers = [connection.recv(65536) for connection in connections]
    refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503 ")]
    assert refused
    assert all(b"retry-after: 1\r\n" in answer and b'"overloaded"' in answer for answer in refused)
    assert any(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    for connection in connections:
        connection.close()
    assert guarded.status(FIRST) == 200


def test_requests_that_are_still_arriving_take_no_slot(guarded: Guarded) -> None:
    slow = [connect_raw(guarded.server, HALF_BODY) for _ in range(50)]
    for _ in range(5):
        assert guarded.status(FIRST) == 200
    for connection in slow:
        connection.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that holds at most four large bodies."""
    model = write_policy(tmp_path_factory.mktemp("small") / "cart" / "policy.onnx").parent
    limits = {"max_body_bytes": 4 * MIB, "max_bytes_in_flight": 16 * MIB}
    with running(model, slow_client_seconds=4, **limits) as server:
        yield server


def half_body(size: int) -> bytes:
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return head + b"content-length: %d\r\n\r\n" % (size + 1) + b" " * size


def test_bodies_in_flight_are_bounded_and_small_requests_still_answered(small: Server) -> None:
    def memory() -> int:
        return sum(worker.memory_info().rss for worker in small.workers())

    assert small.predict([1, 2, 3, 4]).status_code == 200
    before = memory()
    connections = []
    for _ in range(40):
        connection = connect_raw(small, b"")
        with suppress(ConnectionError):  # refused before all of it was sent
            connection.sendall(half_body(3 * MIB))
        connections.append(connection)
        assert small.predict([1, 2, 3, 4]).status_code == 200
    # 16 MiB of bodies, and what the allocator keeps of the refused ones.
    assert memory() - before < 64 * MIB
    refused = 0
    for connection in connections:
        connection.setblocking(False)
        with suppress(ConnectionError, BlockingIOError):
            answer = connection.recv(65536)
            refused += answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1\r\n" in answer
    assert refused > 0
    body = b'{"observation": [1, 2, 3, 4]}' + b" " * 3 * MIB

    def status_of_large() -> int:
        with suppress(httpx.WriteError, httpx.ReadError):
            response = small.client.post(
                "/predict", content=body, headers={"content-type": "application/json"}
            )
            return response.status_code
        return 0

    # The guard against slow clients ends the unfinished ones, also those whose client stays.
    assert wait_until(lambda: status_of_large() == 200, 20)
    for connection in connections:
        connection.close()
    for _ in range(20):
        assert status_of_large() == 200
    assert wait_until(lambda: memory() - before < 32 * MIB, 5)


def test_a_client_that_leaves_gives_its_bytes_back(small: Server) -> None:
    for _ in range(10):
        connections = [connect_raw(small, half_body(3 * MIB)) for _ in range(4)]
        for connection in connections:
            connection.close()
    body = b'{"observation": [1, 2, 3, 4]}' + b" " * 3 * MIB
    headers = {"content-type": "application/json"}

    def ok() -> bool:
        response = small.client.post("/predict", content=body, headers=headers)
        return response.status_code == 200

    assert wait_until(ok, 5)


def test_a_client_that_never_completes_a_request_is_disconnected(guarded: Guarded) -> None:
    first_request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
    incomplete = [b"", b"POST /pre", b"GET /livez HTTP/1.1\r\nhost: localhost\r\n", HALF_BODY]
    incomplete.append(b"GET /ws/cart HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nx: ")
    started = time.monotonic()
    connections = [connect_raw(guarded.server, data) for data in incomplete]
    second = connect_raw(guarded.server, first_request)
    answer = b""
    while not answer.endswith(b"}"):
        answer += second.recv(1000)
    second.sendall(b"GET /liv")
    for connection in (*connections, second):
        with connection, suppress(ConnectionResetError):
            assert connection.recv(1000) == b""
        # The limit is 2 s, checked once a second.
        assert 1.5 < time.monotonic() - started < 8


def test_an_idle_connection_stays_open(guarded: Guarded) -> None:
    client = guarded.server.client
    with client.stream("GET", "/livez") as response:
        response.read()
        before = response.extensions["network_stream"].get_extra_info("client_addr")
    time.sleep(3.5)  # longer than slow_client_seconds and one more check
    with client.stream("GET", "/livez") as response:
        after = response.extensions["network_stream"].get_extra_info("client_addr")
    assert before == after


def test_batch_and_body_limits_come_from_the_settings(guarded: Guarded) -> None:
    client = guarded.server.client
    batch = {"observation": [[0, 0, 0, 0]] * 5}
    response = client.post("/predict", json=batch, headers=bearer(FIRST))
    assert response.json()["error"]["code"] == "batch_too_large"
    response = client.post("/predict", content=b" " * 5000, headers=bearer(FIRST))
    assert response.json()["error"]["code"] == "body_too_large"


def test_clients_that_do_not_read_are_closed_and_slow_readers_are_not(small: Server) -> None:
    def is_open(connection: socket.socket) -> bool:
        connection.setblocking(False)
        try:
            connection.send(batch)
        except ConnectionError:
            return False
        except BlockingIOError:  # the server does not read
            pass
        return True

    url = httpx.URL(small.url)
    batch = b"\x82\xfe" + (16_000).to_bytes(2, "big") + bytes(4) + bytes(16_000)
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.socket()) for _ in range(5)]
        for connection in connections:
            # Before connecting: otherwise the system keeps all the answers for the client.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect((url.host, url.port))
            connection.sendall(HANDSHAKE)
            assert connection.recv(1000).startswith(b"HTTP/1.1 101")
            connection.settimeout(1)
            with suppress(TimeoutError):  # until the server reads no more
                connection.sendall(batch * 10_000)
            connection.settimeout(20)
        *others, slow = connections
        started = time.monotonic()
        while any(map(is_open, others)) or time.monotonic() < started + 8:
            assert slow.recv(2048)
            assert (
                time.monotonic() < started + 30
            )  # before pings close it, which it does not answer
            time.sleep(0.1)


def test_unfinished_websocket_messages_are_bounded(small: Server) -> None:
    def memory() -> int:
        return sum(worker.memory_info().rss for worker in small.workers())

    before = memory()
    one_frame = b"\x82\xff" + (3 * MIB + 1).to_bytes(8, "big") + bytes(4) + bytes(3 * MIB)
    fragments = b"\x02\x81" + bytes(5) + (b"\x00\x81" + bytes(5)) * 50_000  # 64 bytes each
    connections = []
    with connect(small.websocket_url("cart")) as good:
        for index in range(40):
            connection = connect_raw(small, HANDSHAKE)
            assert connection.recv(1000).startswith(b"HTTP/1.1 101")
            with suppress(ConnectionError):  # refused before all of it was sent
                connection.sendall(fragments if index % 2 else one_frame)
            connections.append(connection)
            good.send(bytes(16))
            assert len(good.recv()) == 8
    # 16 MiB are counted; lists and buffers take up to twice as much.
    assert memory() - before < 80 * MIB
    for connection in connections:
        connection.close()
    with connect(small.websocket_url("cart"), max_size=None) as large:
        large.send(json.dumps({"observation": [1, 2, 3, 4]}) + " " * 3 * MIB)
        assert "action" in json.loads(large.recv())
