"""A renewed certificate is taken up; a broken one is not; handshakes have a time limit."""

from __future__ import annotations

import shutil
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.runtime.policy_files import write_policy
from tests.serve.process.certificates import needs_openssl, write_certificate
from tests.serve.server import Server, running, wait_until


def presented(server: Server) -> str:
    """The certificate that a new connection gets."""
    address = urlsplit(server.url)
    return ssl.get_server_certificate((str(address.hostname), address.port or 0))


@needs_openssl
def test_a_renewed_certificate_is_presented_and_a_broken_one_is_not(tmp_path: Path) -> None:
    model = write_policy(tmp_path / "cart" / "policy.onnx").parent
    cert, key = write_certificate(tmp_path / "live", "first")
    with running(model, tls=(cert, key), workers=2) as server:
        first = cert.read_text()
        assert presented(server) == first
        open_connection = httpx.Client(base_url=server.url, verify=False)
        assert open_connection.get("/livez").status_code == 200

        renewed, renewed_key = write_certificate(tmp_path / "renewed", "second")
        shutil.copyfile(renewed, cert)  # for a moment the pair does not match
        time.sleep(1.5)
        assert presented(server) == first
        shutil.copyfile(renewed_key, key)
        second = renewed.read_text()
        assert wait_until(lambda: all(presented(server) == second for _ in range(8)))

        time.sleep(1.5)  # the process that forks workers has looked, too
        cert.write_text("nothing")
        time.sleep(3)
        assert presented(server) == second
        context = ssl.create_default_context(cafile=str(renewed))
        assert httpx.get(f"{server.url}/livez", verify=context).status_code == 200
        assert open_connection.get("/livez").status_code == 200
        open_connection.close()
        victim = server.workers()[0]
        victim.kill()  # its replacement starts with the certificate that is in use
        assert wait_until(lambda: server.has_replaced(victim, 2), 60)
        assert {presented(server) for _ in range(8)} == {second}
        log = server.stop()
    kept = [line for line in log if "keeping the previous TLS certificate" in line]
    # Twice in each of the two workers and in the process that forks them: not once a second.
    assert len(kept) == 6, log


@needs_openssl
def test_old_protocols_are_refused_and_handshakes_end(tmp_path: Path) -> None:
    model = write_policy(tmp_path / "cart" / "policy.onnx").parent
    pair = write_certificate(tmp_path, "first")
    with running(model, tls=pair, slow_client_seconds=1) as server:
        address = urlsplit(server.url)
        host = (str(address.hostname), address.port or 0)
        with socket.create_connection(host, timeout=20) as silent:
            started = time.monotonic()
            assert silent.recv(100) == b""
            assert 0.5 < time.monotonic() - started < 15
        with socket.create_connection(host, timeout=20) as plain:
            plain.sendall(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            plain.recv(100)
        assert httpx.get(f"{server.url}/livez", verify=False).status_code == 200
        assert server.stop() == ["stopped"]  # a client's handshake is no error of the service
