"""What a client may send before its request is complete, and which upgrades it may ask for."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.runtime.policy_files import write_policy
from tests.serve.http.guarded import connect_raw
from tests.serve.server import Server, running, wait_until

GET = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n"
HANDSHAKE = (
    b"GET /ws/cart HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: " + b64encode(bytes(16)) + b"\r\n"
)
POST = b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
BODY = b'{"observation": [1, 2, 3, 4]}'
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without keys, whose slow clients are not disconnected during a test."""
    model = write_policy(tmp_path_factory.mktemp("plain") / "cart" / "policy.onnx").parent
    with running(model, slow_client_seconds=60) as server:
        yield server


def headers(count: int, size: int = 1) -> bytes:
    return b"".join(b"x-%d: %s\r\n" % (index, b"v" * size) for index in range(count))


def answer_to(server: Server, parts: Sequence[bytes]) -> bytes:
    """Everything that comes back until the server closes the connection or has answered."""
    with connect_raw(server, b"") as connection:
        # The server may close before all is sent.
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> bytes:
    """The next answer with its body; shorter if the connection ends."""
    data = b""
    with suppress(ConnectionError):
        while b"\r\n\r\n" not in data:
            received = connection.recv(1)
            if not received:
                return data
            data += received
        length = data.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        left = int(length or 0)
        while left and (received := connection.recv(left)):
            data += received
            left -= len(received)
    return data


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def memory(server: Server) -> int:
    return sum(worker.memory_info().rss for worker in server.workers())


@pytest.mark.parametrize(
    "parts",
    [
        [GET + headers(100) + b"\r\n"],
        [GET + headers(1, 65 * 1024) + b"\r\n"],
        [GET + headers(66, 1024) + b"\r\n"],
        [GET + b"x: ", *[b"v" * 4096] * 20],
        [GET + b"x" * 70_000],
        [GET, *[b"x: y\r\n"] * 100, b"\r\n"],
        [b"GET /", *[b"x" * 8192] * 9],
        [b"GET /" + b"x" * 66_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n"],
        [b"\r\n" * 40_000],
        [HANDSHAKE + headers(100) + b"\r\n"],
        [HANDSHAKE + headers(1, 65 * 1024) + b"\r\n"],
        [HANDSHAKE + b"cookie: ", *[b"v" * 4096] * 20],
        [POST + b"upgrade: h2c\r\nconnection: upgrade\r\n" + headers(100) + b"\r\n"],
    ],
    ids=lambda parts: f"{len(parts)}-{len(parts[0])}",
)
def test_too_many_headers_get_431_and_are_closed(plain: Server, parts: list[bytes]) -> None:
    answer = answer_to(plain, parts)
    assert status_of(answer) == 431, answer[:200]
    assert b"connection: close" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "headers_too_large"


@pytest.mark.parametrize("trailers", [headers(100), headers(1, 400_000), b"x: " + b"v" * 400_000])
def test_headers_after_a_body_count_too(plain: Server, trailers: bytes) -> None:
    assert status_of(answer_to(plain, [CHUNKED, trailers])) == 431


@pytest.mark.parametrize("more", [headers(95), headers(5, 12_000), headers(1, 60_000)])
def test_headers_within_the_limits_pass_for_requests_and_websockets(
    plain: Server, more: bytes
) -> None:
    assert status_of(answer_to(plain, [GET + more + b"\r\n"])) == 200
    assert status_of(answer_to(plain, [HANDSHAKE + more + b"\r\n"])) == 101
    # One byte at a time, and twice on one connection.
    with connect_raw(plain, b"") as connection:
        for _ in range(2):
            for byte in GET + b"\r\n":
                connection.sendall(bytes([byte]))
            assert status_of(read_answer(connection)) == 200


def test_a_websocket_with_a_long_cookie_works(plain: Server) -> None:
    cookie = {"cookie": "c=" + "v" * 9000}
    with connect(plain.websocket_url("cart"), additional_headers=cookie) as socket:
        socket.send(bytes(16))
        assert len(socket.recv()) == 8


@pytest.mark.parametrize(
    "handshake",
    [
        HANDSHAKE.replace(b"version: 13", b"version: 12"),
        HANDSHAKE.replace(b"sec-websocket-key", b"x"),
        HANDSHAKE.replace(b"GET", b"POST"),
        HANDSHAKE.replace(b"GET", b"POST") + b"content-length: 2\r\n",
        HANDSHAKE.replace(b"/ws/cart", b"/ws/\xff\xfe"),
        HANDSHAKE.replace(b"/ws/cart", b"/ws/other"),
        HANDSHAKE + b"sec-websocket-extensions: \x01\r\n",
        HANDSHAKE + b"origin: http://evil.example\r\n",
        HANDSHAKE.replace(b"host: localhost", b"host: evil.example"),
        HANDSHAKE.replace(b"host: localhost\r\n", b""),
        HANDSHAKE + b"host: localhost\r\n",
    ],
)
def test_an_invalid_handshake_is_answered_and_closed(plain: Server, handshake: bytes) -> None:
    with connect_raw(plain, handshake + b"\r\n{}") as connection:
        assert 400 <= status_of(read_answer(connection)) < 500
        with suppress(ConnectionError):
            assert connection.recv(1) == b""


def test_memory_is_bounded_while_headers_arrive(plain: Server) -> None:
    before = memory(plain)
    highest = before
    flood = [GET + b"x: ", *[b"v" * 65536] * 64]
    small = [GET, *[b"x: y\r\n" * 1000] * 64]
    pipelined = [(GET + b"\r\n") * 20_000]
    for parts in (*[flood] * 30, *[small] * 30, *[pipelined] * 5):
        answer_to(plain, parts)
        highest = max(highest, memory(plain))
    # 30 * 4 MiB of headers were sent. The margin is for the allocator.
    assert highest - before < 40 * MIB
    assert plain.predict([1, 2, 3, 4]).status_code == 200


def test_connections_with_unfinished_headers_hold_little_memory(plain: Server) -> None:
    before = memory(plain)
    open_ones = [connect_raw(plain, GET + b"x: " + b"v" * 60_000) for _ in range(200)]
    assert plain.predict([1, 2, 3, 4]).status_code == 200
    # 64 KiB each, and about as much again for the connection.
    assert memory(plain) - before < 60 * MIB
    for connection in open_ones:
        connection.close()
    assert wait_until(lambda: memory(plain) - before < 40 * MIB)


def test_pipelined_requests_are_answered_in_order(plain: Server) -> None:
    count = 60
    with connect_raw(plain, b"") as connection:
        connection.sendall(
            b"".join(
                GET.replace(b"/livez", b"/models/%d" % index) + b"\r\n" for index in range(count)
            )
        )
        for index in range(count):
            assert b"'%d'" % index in read_answer(connection)


def test_more_pipelined_requests_than_the_limit_get_some_answers_and_a_close(
    plain: Server,
) -> None:
    with connect_raw(plain, (GET + b"\r\n") * 1000) as connection:
        statuses = []
        while answer := read_answer(connection):
            statuses.append(status_of(answer))
    assert 60 < len(statuses) < 1000
    assert set(statuses) == {200}


H2C = (
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n"
    b"http2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
)


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_request_with_an_upgrade_is_answered_over_http_1(
    plain: Server, framing: str, size: int
) -> None:
    tail = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) if framing == "chunked" else BODY
    length = b"transfer-encoding: chunked" if framing == "chunked" else b"content-length: 29"
    data = POST + H2C + length + b"\r\n\r\n" + tail
    with connect_raw(plain, b"") as connection:
        for _ in range(2):
            for start in range(0, len(data), size):
                connection.sendall(data[start : start + size])
            answer = read_answer(connection)
            assert status_of(answer) == 200, answer
            assert b'"action"' in answer


def test_curl_may_ask_for_http2(plain: Server) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    command = ["curl", "-sS", "--http2", f"{plain.url}/predict", "--json", BODY.decode()]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "action" in json.loads(result.stdout)


JAVA = """
import java.net.URI;
import java.net.http.*;
class Client {
    public static void main(String[] args) throws Exception {
        var body = HttpRequest.BodyPublishers.ofString(args[1]);
        var request = HttpRequest.newBuilder(URI.create(args[0] + "/predict"))
            .header("Content-Type", "application/json").POST(body).build();
        var reply = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        System.out.println(reply.body());
    }
}
"""


@pytest.mark.skipif(shutil.which("java") is None, reason="needs java")
def test_the_default_client_of_java_works(plain: Server, tmp_path: Path) -> None:
    source = tmp_path / "Client.java"
    source.write_text(JAVA)
    command = ["java", str(source), plain.url, BODY.decode()]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "action" in json.loads(result.stdout)


def test_connect_is_refused(plain: Server) -> None:
    request = b"CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n"
    assert 400 <= status_of(answer_to(plain, [request])) < 500


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 2\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 2\r\ncontent-length: 3\r\n",
        b"content-length: -2\r\n",
        b"content-length: +2\r\n",
        b"content-length: 2,2\r\n",
        b"content-length: 0x2\r\n",
        b"content-length: \xd9\xa2\r\n",
        b"content-length: " + b"9" * 5000 + b"\r\n",
        b"transfer-encoding: gzip\r\n",
        b"transfer-encoding: chunked, identity\r\n",
    ],
)
def test_an_ambiguous_or_invalid_length_is_400(plain: Server, head: bytes) -> None:
    assert status_of(answer_to(plain, [POST + head + b"\r\n{}"])) == 400


def test_a_huge_length_is_413(plain: Server) -> None:
    for length in (b"8388609", b"9" * 15, b"9" * 19):
        answer = answer_to(plain, [POST + b"content-length: " + length + b"\r\n\r\n{}"])
        assert status_of(answer) == 413
