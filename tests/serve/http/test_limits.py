"""Limits on what one client may use."""

from __future__ import annotations

import time
from contextlib import suppress

from tests.serve.http.guarded import FIRST, HALF_BODY, OBS, Guarded, bearer, connect_raw
from tests.serve.server import wait_until


def test_an_overloaded_worker_refuses_at_once_and_still_answers_health(guarded: Guarded) -> None:
    server = guarded.server
    slow = [connect_raw(server, HALF_BODY) for _ in range(2)]
    assert wait_until(lambda: guarded.status(FIRST) == 503, 1.5)
    response = server.client.post("/predict", json=OBS, headers=bearer(FIRST))
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["code"] == "overloaded"
    assert server.client.get("/livez").status_code == 200
    for connection in slow:
        connection.close()
    assert wait_until(lambda: guarded.status(FIRST) == 200, 5)


def test_a_client_that_never_completes_a_request_is_disconnected(guarded: Guarded) -> None:
    first_request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
    incomplete = [b"", b"POST /pre", b"GET /livez HTTP/1.1\r\nhost: localhost\r\n", HALF_BODY]
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
