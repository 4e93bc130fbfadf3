"""serve(): checked before it starts, ended by the pid that the user has."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.server import running, wait_until
from trpo_deploy.errors import ModelDirError, ServeError
from trpo_deploy.serve import serve


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_policy(tmp_path / "cart" / "policy.onnx")
    return tmp_path / "cart"


def test_importing_the_room_costs_no_bentoml() -> None:
    code = "import sys, trpo_deploy.serve\nprint('bentoml' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr


def test_a_path_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelDirError, match="does not exist"):
        serve([tmp_path / "nothing"])
    with pytest.raises(ModelDirError, match="trpo-deploy export"):
        serve([tmp_path])


def test_no_model_is_refused() -> None:
    with pytest.raises(ServeError, match="no model"):
        serve([])


def test_a_file_that_is_no_policy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "policy.onnx").write_bytes(b"nothing")
    with pytest.raises(ServeError, match="not an ONNX file"):
        serve([tmp_path])


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    for parent in "ab":
        write_policy(tmp_path / parent / "cart" / "policy.onnx")
    with pytest.raises(ServeError, match="rename one folder"):
        serve([tmp_path / "a" / "cart", tmp_path / "b" / "cart"])


@pytest.mark.parametrize("name", ["two words", "-flag", "umläut", "x" * 65])
def test_a_name_that_is_no_part_of_a_url_is_refused(tmp_path: Path, name: str) -> None:
    write_policy(tmp_path / name / "policy.onnx")
    with pytest.raises(ServeError, match="rename the folder"):
        serve([tmp_path / name])


def test_a_port_in_use_is_refused(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f"port {port}.*--port"):
            serve([model], port=port)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"workers": 0}, "workers"), ({"port": 70000}, "port"), ({"host": "no.such.host."}, "host")],
)
def test_an_option_that_cannot_be_is_refused(
    model: Path, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ServeError, match=words):
        serve([model], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_users_pid_stops_everything(model: Path, number: int) -> None:
    with running(model) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert children
        assert server.predict([1, 2, 3, 4]).status_code == 200
        server.process.send_signal(number)
        output, _ = server.process.communicate(timeout=20)
        assert server.process.returncode == 0
        assert output == "stopped\n"
        assert not any(child.is_running() for child in children)


def test_workers_do_not_outlive_a_killed_supervisor(model: Path) -> None:
    with running(model) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        assert wait_until(_all_gone(children))


def test_a_killed_worker_comes_back(model: Path) -> None:
    with running(model) as server:
        (worker,) = psutil.Process(server.process.pid).children()
        os.kill(worker.pid, signal.SIGKILL)
        # The listening socket stays open, so the request waits for the new worker.
        assert server.predict([1, 2, 3, 4]).status_code == 200
        (new,) = psutil.Process(server.process.pid).children()
        assert new.pid != worker.pid


def _all_gone(processes: list[psutil.Process]) -> Callable[[], bool]:
    return lambda: not any(p.is_running() and p.status() != "zombie" for p in processes)
