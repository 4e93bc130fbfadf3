"""Under which host names, and for which web pages, the service answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from tests.runtime.policy_files import write_policy
from tests.serve.http.guarded import OBS, connect_raw
from tests.serve.server import Server, running
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.http.hosts import AllowedHosts, hosts_of_listener
from trpo_deploy.serve.settings import Settings


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("hosts") / "cart" / "policy.onnx").parent


@pytest.fixture(scope="module")
def local(model: Path) -> Iterator[Server]:
    """A server on 127.0.0.1 with one more name."""
    with running(model, allowed_hosts=("Robot.example",)) as server:
        yield server


@pytest.fixture(scope="module")
def everywhere(model: Path) -> Iterator[Server]:
    """A server on all addresses, without allowed hosts."""
    with running(model, host="0.0.0.0") as server:
        yield server


def status(hosts: tuple[str, ...], check: Callable[[AllowedHosts], None]) -> int:
    try:
        check(AllowedHosts(Settings(allowed_hosts=hosts, cors_origins=("https://cors.example",))))
    except RequestError as error:
        return error.status
    return 200


def status_of_host(host: str, hosts: tuple[str, ...] = ("127.0.0.1", "robot.example")) -> int:
    headers = [(b"host", host.encode("latin-1"))]
    scope = {"headers": headers, "http_version": "1.1"}
    return status(hosts, lambda allowed: allowed.check(scope, dict(headers)))


def status_of_origin(origin: str, host: str, hosts: tuple[str, ...] = ("robot.example",)) -> int:
    headers = {b"host": host.encode(), b"origin": origin.encode()}
    return status(hosts, lambda allowed: allowed.check_origin(headers))


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:3000", "10.1.2.3:80", "[::1]", "[::1]:3000", "[FE80::1]:1"),
        *("localhost", "LOCALHOST:3000", "localhost.", "a.localhost:1", "robot.example:8080"),
        *("Robot.Example", "robot.example.", "robot.example:"),
    ],
)
def test_an_address_and_an_allowed_name_are_hosts(host: str) -> None:
    assert status_of_host(host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "robot.example.evil.example", "evil-robot.example", "x", ""),
        *("localhost.evil.example", "127.0.0.1.evil.example", "0x7f.1", "notlocalhost", ":3000"),
        "sub.robot.example",
    ],
)
def test_another_name_is_not_a_host(host: str) -> None:
    assert status_of_host(host) == 403
    assert status_of_host(host, ()) == 200
    assert status_of_host(host, ("*",)) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("user@localhost", "localhost/", "localhost:x", "localhost:123456", "a b", "[::1", "::1"),
        *("localhost localhost", "localhost,localhost", "http://localhost", "x" * 300),
    ],
)
def test_an_invalid_host_is_400_with_any_setting(host: str) -> None:
    for hosts in ((), ("*",), ("robot.example",)):
        assert status_of_host(host, hosts) == 400


def test_the_listener_adds_the_name_that_it_listens_on() -> None:
    assert hosts_of_listener("127.0.0.1", ()) == ("127.0.0.1",)
    assert hosts_of_listener("Robot.local", ("a.example",)) == ("a.example", "robot.local")
    assert hosts_of_listener("::1", ()) == ("::1",)
    for host in ("0.0.0.0", "::", ""):
        assert hosts_of_listener(host, ()) == ()
        assert hosts_of_listener(host, ("a.example",)) == ("a.example",)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:3000", "127.0.0.1:3000"),
        ("http://localhost:3000", "LOCALHOST:3000"),
        ("http://[::1]:3000", "[::1]:3000"),
        ("https://cors.example", "127.0.0.1:3000"),
        ("https://robot.example", "127.0.0.1:3000"),
        ("http://robot.example:3000", "robot.example:3000"),
    ],
)
def test_own_and_allowed_origins_pass(origin: str, host: str) -> None:
    assert status_of_origin(origin, host) == 200


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example", "evil.example"),
        ("https://evil.example:3000", "evil.example:3000"),
        ("http://evil.example", "127.0.0.1:3000"),
        ("http://127.0.0.1:8080", "127.0.0.1:3000"),
        ("http://localhost:3000", "127.0.0.1:3000"),
        ("http://cors.example", "127.0.0.1:3000"),
        ("https://cors.example.evil.example", "127.0.0.1:3000"),
        ("null", "127.0.0.1:3000"),
        ("null", ""),
        ("x", "x"),
        ("://", ""),
        ("http://robot.example@evil.example", "127.0.0.1:3000"),
    ],
)
def test_other_origins_are_refused_whatever_host_says(origin: str, host: str) -> None:
    assert status_of_origin(origin, host) == 403
    assert status_of_origin(origin, host, ()) == 403


def test_a_server_on_loopback_answers_under_its_names_only(local: Server) -> None:
    for name, expected in (("robot.example:1", 200), ("10.0.0.7:3000", 200), ("evil.example", 403)):
        headers = {"host": name}
        assert local.client.post("/predict", json=OBS, headers=headers).status_code == expected
        for path in ("/models", "/docs", "/metrics", "/nothing"):
            found = local.client.get(path, headers=headers).status_code
            assert (found == 403) is (expected == 403)
    response = local.client.get("/models", headers={"host": "evil.example"})
    assert response.json()["error"]["code"] == "host_not_allowed"


def test_a_server_on_all_addresses_answers_under_any_name_but_not_for_its_pages(
    everywhere: Server,
) -> None:
    url = everywhere.url.replace("0.0.0.0", "127.0.0.1")
    port = url.rsplit(":", 1)[1]
    for name, origin, expected in (
        (f"policy.default.svc:{port}", None, 200),
        (f"10.244.0.17:{port}", None, 200),
        (f"10.244.0.17:{port}", f"http://10.244.0.17:{port}", 200),
        (f"evil.example:{port}", f"http://evil.example:{port}", 403),
    ):
        headers = {"host": name} | ({} if origin is None else {"origin": origin})
        response = everywhere.client.post(f"{url}/predict", json=OBS, headers=headers)
        assert response.status_code == expected
        assert everywhere.client.get(f"{url}/livez", headers={"host": name}).status_code == 200


def test_a_websocket_compares_its_origin_with_the_allowed_hosts(local: Server) -> None:
    url = local.websocket_url("cart")
    for origin in ("http://robot.example", local.url):
        with connect(url, origin=Origin(origin)) as socket:
            socket.send(bytes(16))
            assert len(socket.recv()) == 8
    with pytest.raises(InvalidStatus) as caught:
        connect(url, origin=Origin("http://evil.example"))
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"GET /livez HTTP/1.1\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nhost: a b\r\n", 400),
        (b"GET /livez HTTP/1.0\r\nhost: localhost\r\nhost: localhost\r\n", 400),
        (b"GET /livez HTTP/1.0\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-a: 1\r\nx-a: 2\r\n", 200),
    ],
)
def test_http_1_1_needs_one_host(local: Server, head: bytes, expected: int) -> None:
    with connect_raw(local, head + b"\r\n") as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 %d " % expected)
