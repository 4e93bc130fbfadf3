"""Connections are spread over the workers, and file descriptors do not run out."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.runtime.policy_files import write_policy
from tests.serve.process.load import clients
from tests.serve.server import Server, running, wait_until

ROBOTS = 1000
MAX_FILES = 160


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "cart" / "policy.onnx").parent


def test_a_thousand_robots_fit_into_two_workers(model: Path) -> None:
    """Each worker has 512 places."""
    with running(model, workers=2) as server:
        url = server.websocket_url("cart")

        async def act(robot: ClientConnection) -> str | bytes:
            await robot.send('{"observation":[1,2,3,4]}')
            return await robot.recv()

        async def main() -> None:
            robots: list[ClientConnection] = []
            for _ in range(ROBOTS // 50):
                opened = [connect(url, open_timeout=60, ping_interval=None) for _ in range(50)]
                robots += await asyncio.gather(*opened)
            answers = await asyncio.gather(*map(act, robots))
            assert all('"action":' in str(answer) for answer in answers)
            metric = "trpo_deploy_open_websockets"
            total = await asyncio.to_thread(wait_until, lambda: server.metric(metric) == ROBOTS)
            assert total
            for robot in robots:
                robot.transport.abort()

        asyncio.run(main())
        assert wait_until(lambda: server.metric("trpo_deploy_open_websockets") == 0)


def test_connections_beyond_the_file_descriptors_get_503(model: Path) -> None:
    with running(model, max_files=MAX_FILES) as server, clients(server, 1) as (steady,):
        port = int(server.url.rsplit(":", 1)[1])
        answers: list[bytes] = []
        with ExitStack() as stack:
            for _ in range(2 * MAX_FILES):
                connection = socket.create_connection(("127.0.0.1", port), timeout=0.05)
                stack.enter_context(connection)
                try:
                    answers.append(connection.recv(4096))
                except TimeoutError:
                    continue  # accepted, waits for the request
                except ConnectionResetError:
                    answers.append(b"")
            refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503")]
            assert refused
            assert b"retry-after: 1" in refused[0]
            assert steady.failure is None
        # The worker is the same and accepts again, as soon as it has seen that the others are gone.
        assert wait_until(lambda: is_ready(server))
        assert server.metric("trpo_deploy_worker_restarts_total") == 0
        assert steady.failure is None


def is_ready(server: Server) -> bool:
    """Whether it answers so; a connection beyond the limit may be closed without an answer."""
    try:
        return server.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
