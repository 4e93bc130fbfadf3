"""The OpenAPI document: true examples, and a service that stands whatever is sent to it."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jsonschema_rs
import numpy as np
import psutil
import pytest

from tests.runtime.policy_files import ACTION_SPACES, OBSERVATION_SPACES
from tests.serve.protocols.test_predict import NAMES
from tests.serve.server import Server
from trpo_deploy.serve.protocols.openapi.schemas import space_schema


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    return server.client.get("/docs.json").json()


@pytest.mark.parametrize("name", NAMES)
def test_each_models_example_works_when_pasted(server: Server, document: Any, name: str) -> None:
    operation = document["paths"][f"/models/{name}/predict"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert server.client.post(f"/models/{name}/predict", json=example).status_code == 200
    examples = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    pasted = server.client.post("/predict", json=examples["examples"][name]["value"])
    assert pasted.status_code == 200


ARRAY_SPACES = {**OBSERVATION_SPACES, **{f"act-{k}": v for k, v in ACTION_SPACES.items()}}
del ARRAY_SPACES["dict"]  # a schema for each of its keys


@pytest.mark.parametrize("name", ARRAY_SPACES)
def test_a_spaces_schema_takes_its_samples_and_no_other_shape(name: str) -> None:
    space = ARRAY_SPACES[name]
    schema = space_schema(space)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    for _ in range(20):
        jsonschema_rs.validate(schema, space.sample(rng).tolist())  # type: ignore[union-attr]
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, [[[[0]]]])


def test_the_page_loads_nothing_from_elsewhere(server: Server) -> None:
    page = server.client.get("/docs").text
    assert "http:" not in page
    assert "https:" not in page
    for file in ("/static_content/swagger-ui.css", "/static_content/swagger-ui-bundle.js"):
        assert file in page
        assert server.client.get(file).status_code == 200


@pytest.mark.slow
def test_schemathesis_finds_no_500_and_no_undocumented_answer(server: Server) -> None:
    before = worker_pids(server)
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/docs.json"]
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    options = ["--checks", f"{checks},response_schema_conformance", "--max-examples", "15"]
    result = subprocess.run(
        [*command, *options, "--phases", "examples,coverage,fuzzing", "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-1000:]
    assert worker_pids(server) == before


PATHS = [
    *("/predict", "/models/box/predict", "/models/image/predict", "/v2/models/box/infer"),
    *("/v2/models/dict/infer", "/admin/models/box/load", "/v2/repository/index", "/models/box"),
    *("/docs.json", "/metrics", "/readyz", "/ws/box", "/nothing", "/v2", "/schema.json"),
]
SEEDS = [
    b'{"observation": [1, 2, 3, 4], "model": "box"}',
    b'{"inputs":[{"name":"obs","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}',
    b'{"inputs":[{"name":"obs","datatype":"FP32","shape":[1,4],"parameters":{"binary_data_size":16}}]}',
    bytes(16),
    b"",
]
HEADERS = [
    {"content-type": "application/json"},
    {
        "content-type": "application/octet-stream",
        "x-tensor-dtype": "float32",
        "x-tensor-shape": "4",
    },
    {"content-type": "application/octet-stream", "inference-header-content-length": "88"},
    {"content-type": "multipart/form-data; boundary=x"},
    {"content-encoding": "gzip"},
    {"transfer-encoding": "chunked"},
    {"authorization": "Basic \xff"},
]


def spoil(rng: random.Random, data: bytes) -> bytes:
    """Change, drop, double or insert a few bytes."""
    content = bytearray(data)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(content) + 1)
        content[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
    return bytes(content)


def test_bytes_of_any_kind_get_an_answer_below_500(server: Server) -> None:
    rng = random.Random(0)
    before = worker_pids(server)
    for _ in range(1500):
        path, headers = rng.choice(PATHS), rng.choice(HEADERS)
        method = rng.choice(["POST", "POST", "POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
        content = spoil(rng, rng.choice(SEEDS))
        raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
        response = server.client.request(method, path, content=content, headers=raw)
        assert response.status_code < 500, (method, path, headers, content, response.text)
        assert b"Traceback" not in response.content
    assert worker_pids(server) == before


def test_lines_that_are_no_http_end_their_connection_only(server: Server) -> None:
    import socket

    rng = random.Random(1)
    before = worker_pids(server)
    address = urlsplit(server.url)
    request = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
    for _ in range(200):
        with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
            connection.sendall(spoil(rng, spoil(rng, request)))
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
            assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert worker_pids(server) == before
    assert server.client.get("/livez").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/models/..%2f..%2fetc%2fpasswd",
        "/models/../../etc/passwd/predict",
        "/models/%00/predict",
        "/models/" + "x" * 5000,
        "/v2/models/box/versions/..",
        "/static_content/../app.py",
        "/static_content/..%2f..%2f..%2fapp.py",
        "//predict",
        "/predict/",
        "/v2/",
        "/models//predict",
        "/admin/models/box",
    ],
)
def test_tricks_with_paths_lead_nowhere(server: Server, path: str) -> None:
    address = urlsplit(server.url)
    # httpx would tidy the path up.
    import http.client

    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status in (404, 405), response.read()
    connection.close()


def worker_pids(server: Server) -> list[int]:
    return [child.pid for child in psutil.Process(server.process.pid).children()]


def test_the_documents_paths_are_served(server: Server, document: Any) -> None:
    for path, item in document["paths"].items():
        if "get" in item:
            response = server.client.get(path.replace("{name}", "box"))
            assert response.status_code == 200, (path, response.text)


def test_a_model_is_described_with_its_spec(server: Server, models: Path) -> None:
    value = server.client.get("/models/dict").json()
    assert value["spec"]["observation_space"]["kind"] == "dict"
    assert value["certificate"] is None
    assert value["sha256"].startswith(value["version"])
    listed: httpx.Response = server.client.get("/models")
    assert sorted(listed.json()["models"]) == sorted(path.name for path in models.iterdir())
