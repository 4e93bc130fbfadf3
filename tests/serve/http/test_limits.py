"""Keys, TLS, cross-origin requests, bounds, and limits on what one client may take."""

from __future__ import annotations

import hashlib
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.runtime.policy_files import OBSERVATION_SPACES, write_policy
from tests.serve.server import Server, running, wait_until
from trpo_deploy.errors import ServeError
from trpo_deploy.serve import serve
from trpo_deploy.serve.http.key_file import KeyFile
from trpo_deploy.serve.settings import Settings

FIRST, SECOND = "first-key-of-the-tests", "second-key-of-the-tests"
OBS = {"observation": [1, 2, 3, 4]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("limits") / "cart" / "policy.onnx").parent


@pytest.fixture(scope="module")
def guarded(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server with keys, small limits and one allowed origin."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{FIRST}\nsha256:{hashlib.sha256(SECOND.encode()).hexdigest()}\n")
    options = {
        "api_key_file": keys,
        "cors_origins": ("https://game.example",),
        "max_concurrent": 2,
        "slow_client_seconds": 2,
        "max_batch": 4,
        "max_body_bytes": 4096,
    }
    with running(model, **options) as server:
        yield server, keys


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_key_of_the_file_is_needed(guarded: tuple[Server, Path]) -> None:
    client = guarded[0].client
    for headers in ({}, bearer("wrong"), {"x-api-key": ""}, {"x-api-key": "wrong"}):
        response = client.post("/predict", json=OBS, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    for headers in (bearer(FIRST), bearer(SECOND), {"x-api-key": FIRST}):
        assert client.post("/predict", json=OBS, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "path", ["/models", "/models/cart", "/metrics", "/docs.json", "/schema.json"]
)
def test_nothing_about_the_models_is_told_without_a_key(
    guarded: tuple[Server, Path], path: str
) -> None:
    assert guarded[0].client.get(path).status_code == 401
    assert guarded[0].client.get(path, headers=bearer(FIRST)).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/v2/health/ready", "/docs"])
def test_health_needs_no_key(guarded: tuple[Server, Path], path: str) -> None:
    assert guarded[0].client.get(path).status_code == 200


def test_a_websocket_needs_a_key_too(guarded: tuple[Server, Path]) -> None:
    url = guarded[0].url.replace("http", "ws") + "/ws/cart"
    with pytest.raises(InvalidStatus) as caught:
        connect(url)
    assert caught.value.response.status_code == 401
    with connect(url, additional_headers=bearer(FIRST)) as socket:
        socket.send(bytes(16))
        assert len(socket.recv()) == 8


def test_administration_is_off_without_its_own_keys(guarded: tuple[Server, Path]) -> None:
    response = guarded[0].client.post("/admin/models/cart/load", headers=bearer(FIRST))
    assert response.status_code == 403


def test_changed_keys_are_taken_up_and_bad_ones_are_not(guarded: tuple[Server, Path]) -> None:
    server, keys = guarded
    before = keys.read_text()

    def allowed(key: str) -> bool:
        return server.client.post("/predict", json=OBS, headers=bearer(key)).status_code == 200

    third = "third-key-of-the-tests"
    keys.write_text(before + third)
    assert wait_until(lambda: allowed(third), 5)
    keys.write_text("short")
    time.sleep(2.5)
    assert allowed(third)
    keys.write_text(before)
    assert wait_until(lambda: not allowed(third), 5)
    assert allowed(FIRST)


@pytest.mark.parametrize("text", ["", "# nothing\n\n", "short\n", "sha256:abc\n"])
def test_a_key_file_that_guards_nothing_is_refused(model: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ServeError, match="key"):
        serve([model], api_key_file=tmp_path / "keys")
    with pytest.raises(ServeError, match="cannot read the key file"):
        KeyFile(tmp_path / "none")


def test_only_allowed_origins_may_call_from_a_browser(guarded: tuple[Server, Path]) -> None:
    client = guarded[0].client
    for origin, allowed in (("https://game.example", True), ("https://evil.example", False)):
        asked = {"origin": origin, "access-control-request-method": "POST"}
        preflight = client.options("/predict", headers=asked)
        assert ("access-control-allow-origin" in preflight.headers) is allowed
        response = client.post("/predict", json=OBS, headers={"origin": origin, **bearer(FIRST)})
        assert ("access-control-allow-origin" in response.headers) is allowed


def test_a_websocket_of_another_origin_is_refused(guarded: tuple[Server, Path]) -> None:
    server = guarded[0]
    url = server.url.replace("http", "ws") + "/ws/cart"
    for origin in ("https://game.example", server.url):
        with connect(url, additional_headers=bearer(FIRST), origin=Origin(origin)) as socket:
            socket.send(bytes(16))
            assert len(socket.recv()) == 8
    with pytest.raises(InvalidStatus) as caught:
        connect(url, additional_headers=bearer(FIRST), origin=Origin("https://evil.example"))
    assert caught.value.response.status_code == 403


def raw(server: Server, data: bytes) -> socket.socket:
    address = urlsplit(server.url)
    connection = socket.create_connection((address.hostname, address.port), timeout=10)
    connection.sendall(data)
    return connection


HALF_BODY = (
    b"POST /predict HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + FIRST.encode() + b"\r\n"
    b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
)


def test_overload_is_said_at_once_and_health_still_answers(guarded: tuple[Server, Path]) -> None:
    server = guarded[0]
    slow = [raw(server, HALF_BODY) for _ in range(2)]
    time.sleep(0.2)
    response = server.client.post("/predict", json=OBS, headers=bearer(FIRST))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["code"] == "overloaded"
    assert server.client.get("/livez").status_code == 200
    for connection in slow:
        connection.close()

    def works() -> bool:
        return server.client.post("/predict", json=OBS, headers=bearer(FIRST)).status_code == 200

    assert wait_until(works, 5)


@pytest.mark.parametrize(
    "data", [b"", b"POST /pre", b"GET /livez HTTP/1.1\r\nhost: x\r\n", HALF_BODY]
)
def test_a_client_that_never_finishes_is_cut_off(guarded: tuple[Server, Path], data: bytes) -> None:
    started = time.monotonic()
    with raw(guarded[0], data) as connection, suppress(ConnectionResetError):
        assert connection.recv(1000) == b""
    assert 1.5 < time.monotonic() - started < 8


def test_half_a_second_request_is_cut_off_too(guarded: tuple[Server, Path]) -> None:
    with raw(guarded[0], b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n") as connection:
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(1000)
        connection.sendall(b"GET /liv")
        with suppress(ConnectionResetError):
            assert connection.recv(1000) == b""


def test_an_idle_connection_is_kept(guarded: tuple[Server, Path]) -> None:
    client = guarded[0].client
    with client.stream("GET", "/livez") as response:
        response.read()
        before = response.extensions["network_stream"].get_extra_info("client_addr")
    time.sleep(4)
    with client.stream("GET", "/livez") as response:
        after = response.extensions["network_stream"].get_extra_info("client_addr")
    assert before == after


def test_limits_of_batch_and_body_are_the_settings(guarded: tuple[Server, Path]) -> None:
    client = guarded[0].client
    big = {"observation": [[0, 0, 0, 0]] * 5}
    assert client.post("/predict", json=big, headers=bearer(FIRST)).status_code == 413
    body = b" " * 5000
    assert client.post("/predict", content=body, headers=bearer(FIRST)).status_code == 413


@pytest.mark.parametrize("choice", ["refuse", "clip", "accept"])
def test_numbers_beyond_a_bound_are_treated_as_told(tmp_path: Path, choice: str) -> None:
    from trpo_deploy.serve.errors import RequestError
    from trpo_deploy.serve.models.registry import Registry
    from trpo_deploy.serve.protocols.predict import Predictor
    from trpo_deploy.serve.protocols.predict_request import PredictRequest

    file = write_policy(tmp_path / "p" / "policy.onnx", OBSERVATION_SPACES["bounded_box"])
    registry = Registry([file])
    predictor = Predictor(registry, Settings(out_of_bounds=choice))  # type: ignore[arg-type]
    beyond = [[0, 0, 0], [0, 0, 2.5]]
    if choice == "refuse":
        with pytest.raises(RequestError) as caught:
            predictor.reply(PredictRequest(beyond))
        assert caught.value.code == "observation_out_of_range"
        predictor.reply(PredictRequest([[2.0] * 3, [-2.0] * 3]))  # the bounds belong to the space
        return
    inside = [[0, 0, 0], [0, 0, 2.0]] if choice == "clip" else beyond
    want, _ = registry.get(None).policy.predict(inside)
    assert predictor.reply(PredictRequest(beyond)).body.startswith(b'{"action":[%s,' % str(want[0]).encode())


def test_sigterm_says_so_answers_what_is_in_flight_and_exits_well(model: Path) -> None:
    with running(model, drain_seconds=2) as server:
        body = b'{"observation":[1,2,3,4]}'
        head = HALF_BODY.replace(b"100", str(len(body)).encode())[:-1]
        with raw(server, head) as connection:
            server.process.send_signal(signal.SIGTERM)
            ready = f"{server.url}/readyz"
            assert wait_until(lambda: httpx.get(ready).status_code == 503, 2)
            assert server.predict([1, 2, 3, 4]).status_code == 200  # draining, not deaf
            time.sleep(2.2)
            connection.sendall(body)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        output, _ = server.process.communicate(timeout=20)
        assert server.process.returncode == 0
        assert output == "stopped\n"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls_by_certificate_files(model: Path, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    with running(model, tls=(cert, key)) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert))
        response = httpx.post(f"{server.url}/predict", json=OBS, verify=context)
        assert response.status_code == 200
    with pytest.raises(ServeError, match="PEM"):
        serve([model], tls=(cert, cert))
