"""The OpenAPI document describes what the service does, with examples that work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import pytest

from tests.runtime.policy_files import ACTION_SPACES, OBSERVATION_SPACES
from tests.serve import model_names
from tests.serve.server import Server, running
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.protocols.openapi.schemas import space_schema
from trpo_deploy.spec.spaces import BoxSpace, Space


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    return server.client.get("/docs.json").json()


@pytest.mark.parametrize("name", model_names.ALL)
def test_each_models_example_gets_a_documented_answer(
    server: Server, document: Any, name: str
) -> None:
    paths = document["paths"]
    operation = paths[f"/models/{name}/predict"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    answer = server.client.post(f"/models/{name}/predict", json=example)
    assert answer.status_code == 200
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema_rs.validate(schema, answer.json())
    examples = paths["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert server.client.post("/predict", json=examples[name]["value"]).json() == answer.json()


SPACES = {**OBSERVATION_SPACES, **{f"act-{k}": v for k, v in ACTION_SPACES.items()}}
ARRAY_SPACES = {name: space for name, space in SPACES.items() if isinstance(space, Space)}


@pytest.mark.parametrize("name", ARRAY_SPACES)
def test_a_spaces_schema_accepts_its_samples_and_no_other_shape(name: str) -> None:
    space = ARRAY_SPACES[name]
    schema = space_schema(space)
    rng = np.random.default_rng(0)
    for _ in range(20):
        jsonschema_rs.validate(schema, space.sample(rng).tolist())
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, [[[[0]]]])


def test_the_schema_of_booleans_also_accepts_0_and_1() -> None:
    schema = space_schema(ARRAY_SPACES["bool_box"])
    jsonschema_rs.validate(schema, [True, False, 0, 1, 1])
    for wrong in (2, 0.5, "true", None):
        with pytest.raises(jsonschema_rs.ValidationError):
            jsonschema_rs.validate(schema, [wrong, 0, 0, 0, 0])


def test_the_docs_page_loads_nothing_from_other_hosts(server: Server) -> None:
    page = server.client.get("/docs").text
    assert "http:" not in page
    assert "https:" not in page
    for file in ("/static_content/swagger-ui.css", "/static_content/swagger-ui-bundle.js"):
        assert file in page
        assert server.client.get(file).status_code == 200


NO_SCHEMA = """
[[operations]]
include-operation-id-regex = "{operations}"
checks.positive_data_acceptance.enabled = false
"""
"""What JSON Schema cannot say: `shape` fits `data`, all keys have one batch size, and 2.0 is not an
integer. For these operations a valid request may therefore be refused."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "operations"),
    [
        (["box", "bounded_box"], "^v2_infer_"),
        (["dict", "discrete"], "^(v2_infer|predict)"),
    ],
)
def test_schemathesis_finds_nothing_with_all_its_checks(
    models: Path, tmp_path: Path, names: list[str], operations: str
) -> None:
    config, keys = tmp_path / "schemathesis.toml", tmp_path / "keys"
    config.write_text(NO_SCHEMA.format(operations=operations))
    keys.write_text("a-key-for-this-test\n")
    with running(*(models / name for name in names), api_key_file=keys) as server:
        before = server.workers()
        authorization = "Authorization: Bearer a-key-for-this-test"
        program = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)]
        options = ["--max-examples", "5", "--seed", "1", "-H", authorization]
        result = subprocess.run(
            [*program, "run", f"{server.url}/docs.json", *options],
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-1000:]
        assert server.workers() == before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bounds_of_a_schema_are_those_that_the_service_takes(dtype: str) -> None:
    for high in (0.1, 2.0, 1e-45, 1.0, 12345.678, np.inf):
        space = BoxSpace(np.full(1, -high, dtype), np.full(1, high, dtype))
        largest = min(np.float32(high), np.finfo(np.float32).max)
        item = space_schema(space)["items"]
        for bound, towards in ((item["maximum"], np.inf), (-item["minimum"], np.inf)):
            with np.errstate(over="ignore"):
                assert np.float32(bound) == largest
                assert np.float32(np.nextafter(bound, towards)) > largest


def test_every_documented_get_path_is_served(server: Server, document: Any) -> None:
    for path, item in document["paths"].items():
        if "get" in item:
            response = server.client.get(path.replace("{name}", "box"))
            assert response.status_code == 200, (path, response.text)


def test_models_are_listed_and_described_with_their_specs(server: Server, models: Path) -> None:
    value = server.client.get("/models/dict").json()
    assert value["spec"]["observation_space"]["kind"] == "dict"
    assert value["spec"] == json.loads(OnnxPolicy(models / "dict" / "policy.onnx").spec.to_json())
    assert value["certificate"] is None
    assert value["sha256"].startswith(value["version"])
    listed: httpx.Response = server.client.get("/models")
    assert sorted(listed.json()["models"]) == sorted(path.name for path in models.iterdir())
