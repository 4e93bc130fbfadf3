"""BentoML's own server, client and access log work with the service."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.process.bentoml_server import bentoml_serve
from tests.serve.server import running

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
import grpc
import httpx
import pytest
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


def test_the_access_log_is_an_optional_middleware(tmp_path: Path) -> None:
    write_policy(tmp_path / "box" / "policy.onnx")
    with running(tmp_path / "box", access_log=True, grpc_port=0) as server:
        assert server.predict([1, 2, 3, 4]).status_code == 200
        with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"")
        server.process.terminate()
        output, _ = server.process.communicate(timeout=20)
    assert "path=/predict" in output
    path = "/inference.GRPCInferenceService/ModelInfer"
    assert re.search(
        rf"bentoml\.access: 127\.0\.0\.1:\d+ \(scheme=grpc,method=POST,path={path}\) "
        r"\(status=422\) \d+\.\d+ms",
        output,
    ), output
