"""BentoML's own server, client and build accept the service."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.runtime.policy_files import OBSERVATION_SPACES, write_policy
from tests.serve.server import running, wait_until
from trpo_deploy.errors import ServeError
from trpo_deploy.serve import bundle
from trpo_deploy.serve.process.requirements import pin_requirements

BLOCKED = "torch stable_baselines3 sb3_contrib gymnasium onnx tensorboard"


@contextmanager
def bentoml_serve(target: str, home: Path, **environment: str) -> Iterator[str]:
    """Run ``bentoml serve`` on a free port, and stop it by its pid."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host", "127.0.0.1"]
    own = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", **environment}
    log = (home.parent / "log").open("w+")
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        env={**os.environ, **own},
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=home.parent,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        assert wait_until(lambda: process.poll() is not None or is_ready(url), 60)
        log.seek(0)
        assert process.poll() is None, log.read()
        yield url
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


CLIENT = """
import sys
import bentoml
with bentoml.SyncHTTPClient(sys.argv[1]) as client:
    assert client.is_ready()
    print(client.predict(observation=[1, 2, 3, 4], model="box"))
    try:
        client.predict(observation=[1, 2, 3])
    except bentoml.exceptions.BentoMLException as error:
        print(error)
"""


def test_bentomls_server_and_client_work_with_the_service(tmp_path: Path) -> None:
    write_policy(tmp_path / "models" / "box" / "policy.onnx")
    models = str(tmp_path / "models")
    target = "trpo_deploy.serve.process.service:PolicyService"
    with bentoml_serve(target, tmp_path / "home", TRPO_DEPLOY_MODELS=models) as url:
        # In its own process: importing bentoml raises deprecation warnings.
        command = [sys.executable, "-c", CLIENT, url]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        action, error = result.stdout.splitlines()
        answer = httpx.post(f"{url}/predict", json={"observation": [1, 2, 3, 4]})
        assert action == str(answer.json())
        assert "observation_shape" in error
        assert "trpo_deploy_requests_total" in httpx.get(f"{url}/metrics").text


def test_the_edge_and_bentomls_api_give_equal_answers(models: Path, tmp_path: Path) -> None:
    code = """
import asyncio, json, sys
import httpx
from trpo_deploy.serve.process.service import PolicyService, open_registry
import numpy as np

async def main():
    edge = PolicyService.to_asgi()
    async with edge.inner.router.lifespan_context(edge.inner):
        clients = [
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://x")
            for app in (edge, edge.inner)
        ]
        for name, entry in open_registry().entries.items():
            sample = entry.latest.policy.spec.sample_observation(np.random.default_rng(0))
            plain = json.loads(json.dumps(sample, default=lambda array: array.tolist()))
            body = {"observation": plain, "model": name}
            one, other = [await client.post("/predict", json=body) for client in clients]
            assert one.status_code == other.status_code == 200, (one.text, other.text)
            assert one.json() == other.json(), name
    print("same")

asyncio.run(main())
"""
    environment = {
        "TRPO_DEPLOY_MODELS": str(models),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "BENTOML_HOME": str(tmp_path / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.stdout.endswith("same\n"), result.stdout + result.stderr


def test_a_bundle_runs_from_another_folder_without_torch(tmp_path: Path) -> None:
    for name in ("box", "dict"):
        write_policy(tmp_path / "models" / name / "policy.onnx", OBSERVATION_SPACES[name])
    bundle([tmp_path / "models"], tmp_path / "bento")
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(tmp_path / "bento", moved)
    shutil.rmtree(tmp_path / "bento")
    shutil.rmtree(tmp_path / "models")
    # An interpreter in which nothing for training can be imported.
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(
        f"import sys\nfor name in {BLOCKED!r}.split():\n    sys.modules[name] = None\n"
    )
    with bentoml_serve(str(moved), tmp_path / "home", PYTHONPATH=str(blocker)) as url:
        answer = httpx.post(f"{url}/models/box/predict", json={"observation": [1, 2, 3, 4]})
        assert answer.status_code == 200
        assert sorted(httpx.get(f"{url}/models").json()["models"]) == ["box", "dict"]
    requirements = (moved / "env" / "python" / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in requirements if line)
    assert not [line for line in requirements if line.split("==")[0] in BLOCKED.split()]
    assert (moved / "env" / "docker" / "Dockerfile").is_file()


def test_bundle_refuses_an_existing_folder(tmp_path: Path) -> None:
    file = write_policy(tmp_path / "box" / "policy.onnx")
    (tmp_path / "out").mkdir()
    with pytest.raises(ServeError, match="exists"):
        bundle([file], tmp_path / "out")


def test_bundle_refuses_a_model_that_cannot_be_served(tmp_path: Path) -> None:
    write_policy(tmp_path / "good" / "policy.onnx")
    write_policy(tmp_path / "bad" / "policy.onnx").write_bytes(b"nothing")
    with pytest.raises(ServeError, match="ONNX file"):
        bundle([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pins_are_the_installed_versions_of_direct_and_indirect_requirements() -> None:
    import numpy as np

    pins = dict(line.split("==") for line in pin_requirements("trpo-deploy", "serve"))
    assert pins["numpy"] == np.__version__
    assert "starlette" in pins  # required by BentoML
    assert "torch" not in pins
    assert "trpo-deploy" not in pins
    with pytest.raises(ServeError, match="not installed"):
        pin_requirements("no-such-distribution")


def test_the_access_log_and_tracing_are_optional_middleware(tmp_path: Path) -> None:
    write_policy(tmp_path / "box" / "policy.onnx")
    with running(tmp_path / "box", access_log=True, tracing=True) as server:
        assert server.predict([1, 2, 3, 4]).status_code == 200
        server.process.terminate()
        output, _ = server.process.communicate(timeout=20)
    assert "path=/predict" in output
