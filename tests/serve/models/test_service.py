"""A real server keeps serving its good models, whatever else is in the served folder."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

import httpx
import psutil
import pytest

from tests.command import run_cli
from tests.runtime.policy_files import write_policy
from tests.serve.models.bad_files import BAD_FILES, write_bad_file
from tests.serve.server import Server, running, wait_until

OBSERVATION = [1, 2, 3, 4]


def versions(server: Server, name: str) -> set[str]:
    """The versions with which the workers answer."""
    url = f"{server.url}/models/{name}/predict"  # a new connection each, so all are asked
    return {
        httpx.post(url, json={"observation": OBSERVATION}, timeout=30).json()["version"]
        for _ in range(8)
    }


class Clients:
    """Ask for actions of one model until the end of the block."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]
        self.statuses: list[int] = []

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=60) as client:
            while not self._done.wait(0.01):  # the processes that try the files need the CPU
                response = client.post("/models/good/predict", json={"observation": OBSERVATION})
                self.statuses.append(response.status_code)


@pytest.mark.slow
def test_good_models_answer_while_bad_files_appear(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    write_policy(folder / "good" / "policy.onnx")
    write_policy(folder / "gone" / "policy.onnx")
    with running(folder, workers=2, max_model_bytes=2**27) as server:
        with Clients(server) as clients:
            for name in BAD_FILES:
                write_bad_file(folder, name)
            write_policy(folder / "an odd name" / "policy.onnx")
            (folder / "gone").rename(tmp_path / "gone")

            def listed() -> set[str]:
                return set(server.client.get("/models").json()["models"])

            assert wait_until(lambda: {*BAD_FILES, "an odd name"} <= listed(), 120)
            write_policy(folder / "late" / "policy.onnx")
            assert wait_until(lambda: "late" in listed(), 60)
        assert {*clients.statuses} == {200}
        for worker in server.workers():  # their replacements start beside all of this
            os.kill(worker.pid, signal.SIGKILL)
        assert len(versions(server, "late")) == 1
        models = server.client.get("/models").json()["models"]
        assert {name for name in models if models[name]["error"] is None} == {"good", "late"}
        for name, bad in BAD_FILES.items():
            assert bad.words in models[name]["error"]
        assert server.client.get("/readyz").json()["models"]["gone"] == "stale"
        assert len(versions(server, "gone")) == 1
        assert server.client.get("/docs.json").status_code == 200
        server.process.terminate()
        output, _ = server.process.communicate(timeout=60)
    for name in [*BAD_FILES, "an odd name"]:
        assert output.count(f"model {name}:") == 1, (name, output)
    # Once, or before it that the file cannot be read: it may go between a look and its reading.
    assert output.count("gone no longer has a policy") == 1
    assert "Traceback" not in output


def test_a_deleted_last_model_stops_nobody(tmp_path: Path) -> None:
    file = write_policy(tmp_path / "cart" / "policy.onnx")
    with running(file.parent) as server:
        (version,) = versions(server, "cart")
        shutil.rmtree(file.parent)
        assert wait_until(lambda: server.client.get("/readyz").json()["models"]["cart"] == "stale")
        (worker,) = server.workers()
        os.kill(worker.pid, signal.SIGKILL)
        assert versions(server, "cart") == {version}
        assert server.client.get("/readyz").status_code == 200


def test_a_boolean_observation_is_answered(server: Server) -> None:
    for value in ([True, False, True, False, True], [1, 0, 1, 0, 1]):
        assert server.predict(value, model="bool_box").status_code == 200
    assert server.predict([2, 0, 1, 0, 1], model="bool_box").status_code == 422
    for path in ("/models", "/models/bool_box", "/docs.json", "/v2/models/bool_box"):
        assert server.client.get(path).status_code == 200


def test_the_command_serves_paths_with_colons_and_links_by_their_names(tmp_path: Path) -> None:
    write_policy(tmp_path / "a:b" / "releases" / "v1" / "policy.onnx")
    live = tmp_path / "a:b" / "live"
    live.symlink_to("releases/v1")
    with running(live, workers=2) as server:
        assert list(server.client.get("/models").json()["models"]) == ["live"]
        assert len(versions(server, "live")) == 1
        for worker in server.workers():
            loaded = {Path(each.path).name for each in worker.memory_maps()}
            assert not {name for name in loaded if name.startswith("onnx_cpp2py")}


@pytest.mark.parametrize("name", ["text", "loop", "certificate-deep", "fifo"])
def test_a_single_bad_model_ends_the_command_with_its_error(tmp_path: Path, name: str) -> None:
    run = run_cli("serve", "--port", 0, write_bad_file(tmp_path, name))
    assert run.code == 1
    assert BAD_FILES[name].words in run.error
    assert run.error.count("\n") == 1


def test_the_command_can_require_certificates(tmp_path: Path) -> None:
    folder = write_policy(tmp_path / "cart" / "policy.onnx").parent
    run = run_cli("serve", "--port", 0, folder, "--require-certificate")
    run.assert_one_clear_line("has no certificate")


def test_no_process_of_a_killed_supervisor_stays(tmp_path: Path) -> None:
    folder = write_policy(tmp_path / "cart" / "policy.onnx").parent
    with running(folder) as server:
        processes = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        assert wait_until(lambda: not any(each.is_running() for each in processes))
