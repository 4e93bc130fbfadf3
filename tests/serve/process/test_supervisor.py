"""The supervisor replaces dead workers, gives up on broken ones, and stops them all."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.server import Server, all_gone, running, wait_until
from trpo_deploy.errors import ServeError
from trpo_deploy.serve.process.supervisor import Supervisor


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("supervisor") / "cart" / "policy.onnx").parent


@pytest.fixture(scope="module")
def supervised(model: Path) -> Iterator[Server]:
    with running(model) as server:
        yield server


def test_a_killed_worker_is_replaced(supervised: Server) -> None:
    (worker,) = supervised.workers()
    os.kill(worker.pid, signal.SIGKILL)
    # The listening socket stays open, so the request waits for the new worker.
    assert supervised.predict([1, 2, 3, 4]).status_code == 200
    (new,) = supervised.workers()
    assert new.pid != worker.pid


def test_workers_end_when_their_supervisor_is_killed(supervised: Server) -> None:
    """The last test with this server."""
    workers = supervised.workers()
    assert workers
    supervised.process.kill()
    assert wait_until(lambda: all_gone(workers))


def test_ctrl_c_stops_all_processes_and_logs_nothing(model: Path) -> None:
    with running(model) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert children
        assert server.predict([1, 2, 3, 4]).status_code == 200
        server.process.send_signal(signal.SIGINT)
        output, _ = server.process.communicate(timeout=20)
        assert server.process.returncode == 0
        assert output == "stopped\n"
        assert all_gone(children)


def test_workers_that_cannot_start_end_the_service(
    model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = {**os.environ, "TRPO_DEPLOY_MODELS": str(model), "PYTHONHOME": "/nowhere"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        supervisor = Supervisor(listener, environment, 1, None)
        with pytest.raises(ServeError, match="died 3 times before they were ready"):
            supervisor.run(lambda: pytest.fail("a worker became ready"))
    assert "nowhere" in capfd.readouterr().err
