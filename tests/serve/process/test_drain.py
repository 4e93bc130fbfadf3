"""SIGTERM: announce the end, finish what is in flight, then exit."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from tests.runtime.policy_files import write_policy
from tests.serve.server import all_gone, running, wait_until

BODY = b'{"observation":[1,2,3,4]}'
HEAD = (
    b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n" % len(BODY)
)


def test_sigterm_finishes_requests_in_flight_and_exits_with_status_0(tmp_path: Path) -> None:
    model = write_policy(tmp_path / "cart" / "policy.onnx").parent
    with running(model, drain_seconds=2) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            connection.sendall(HEAD)
            assert "connection" not in server.predict([1, 2, 3, 4]).headers
            server.process.send_signal(signal.SIGTERM)
            ready = f"{server.url}/readyz"
            assert wait_until(lambda: httpx.get(ready).status_code == 503, 2)
            # New requests are still answered while load balancers notice. Each closes its
            # connection, so that no later request is on its way when the server closes it.
            reply = server.predict([1, 2, 3, 4])
            assert (reply.status_code, reply.headers["connection"]) == (200, "close")
            time.sleep(2.2)
            connection.sendall(BODY)
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        output, _ = server.process.communicate(timeout=20)
        assert server.process.returncode == 0
        assert output == "stopped\n"
        assert all_gone(children)


def test_a_long_drain_leaves_workers_their_time_to_stop(tmp_path: Path) -> None:
    """The supervisor's own time limit, shortened here to 0.5 s, begins after the drain."""
    model = write_policy(tmp_path / "cart" / "policy.onnx").parent
    limit = "from trpo_deploy.serve.process import supervisor; supervisor.STOP_S = 0.5"
    with running(model, drain_seconds=20, before=limit) as server:
        server.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503, 2)
        time.sleep(1.5)
        assert server.predict([1, 2, 3, 4]).status_code == 200
