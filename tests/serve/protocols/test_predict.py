"""POST /predict over a real server: the policy's actions, and a 4xx for every invalid input."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.policy_files import ACTION_SPACES
from tests.serve import model_names
from tests.serve.server import Server
from trpo_deploy.runtime import OnnxPolicy


def to_json(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: to_json(value) for key, value in observation.items()}
    return observation.tolist()


@pytest.mark.parametrize("name", model_names.DETERMINISTIC)
def test_the_answer_is_the_policys_action(server: Server, models: Path, name: str) -> None:
    policy = OnnxPolicy(models / name / "policy.onnx")
    rng = np.random.default_rng(3)
    for _ in range(3):
        observation = policy.spec.sample_observation(rng)
        want, _ = policy.predict(observation)
        response = server.predict(to_json(observation), model=name)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["model"] == name
        assert answer["version"] == policy.sha256[:12]
        np.testing.assert_array_equal(np.asarray(answer["action"], want.dtype), want)


def test_a_batch_gives_a_batch_of_actions(server: Server, models: Path) -> None:
    policy = OnnxPolicy(models / "box" / "policy.onnx")
    batch = np.random.default_rng(4).normal(size=(5, 4)).astype(np.float32)
    answer = server.predict(batch.tolist(), model="box").json()
    np.testing.assert_array_equal(
        np.asarray(answer["action"], np.float32), policy.predict(batch)[0]
    )


def test_the_model_may_be_named_by_the_path(server: Server) -> None:
    body = {"observation": [1, 2, 3, 4]}
    by_path = server.client.post("/models/box/predict", json=body)
    assert by_path.json() == server.predict([1, 2, 3, 4], model="box").json()


BAD_REQUESTS: list[tuple[bytes, int, str, str | None]] = [
    (b"", 400, "invalid_json", None),
    (b"{", 400, "invalid_json", None),
    (b'{"observation": [1,2,3,NaN]}', 400, "invalid_json", None),
    (b'{"observation": [1,2,3,1e999]}', 400, "invalid_json", None),
    (b"\xff\xfe", 400, "invalid_json", None),
    (b"[" * 100_000, 400, "invalid_json", None),
    (b'{"observation": ' + b"[" * 500 + b"]" * 500 + b', "model": "box"}', 422, "", "obs"),
    (b"[1,2,3,4]", 422, "wrong_type", None),
    (b"null", 422, "wrong_type", None),
    (b"{}", 422, "missing_key", "observation"),
    (b'{"observation": [1,2,3,4]}', 422, "model_missing", "model"),
    (b'{"observation": [1,2,3,4], "model": "box", "x": 1}', 422, "extra_key", "x"),
    (b'{"observation": [1,2,3,4], "model": 1}', 422, "wrong_type", "model"),
    (b'{"observation": [1,2,3,4], "model": "nobody"}', 404, "unknown_model", "model"),
    (b'{"observation": [1,2,3,4], "model": "../box"}', 404, "unknown_model", "model"),
    (b'{"observation": [1,2,3,4], "model": "box", "deterministic": 1}', 422, "wrong_type", None),
    (
        b'{"observation": [1,2,3,4], "model": "box", "deterministic": false}',
        422,
        "deterministic_only",
        "deterministic",
    ),
    (b'{"observation": [1,2,3], "model": "box"}', 422, "", "obs"),
    (b'{"observation": [[1,2],[3]], "model": "box"}', 422, "", "obs"),
    (b'{"observation": ["1","2","3","4"], "model": "box"}', 422, "", "obs"),
    (b'{"observation": null, "model": "box"}', 422, "", "obs"),
    (b'{"observation": [1,2,3,1e39], "model": "box"}', 422, "", "obs"),
    (b'{"observation": {"obs": [1,2,3,4]}, "model": "box"}', 422, "", "obs"),
    (b'{"observation": 4, "model": "discrete"}', 422, "", "obs"),
    (b'{"observation": [0,1,2,0,1], "model": "bool_box"}', 422, "", "obs"),
    (b'{"observation": [0.0,1,1,0,1], "model": "bool_box"}', 422, "", "obs"),
    (b'{"observation": 1.0, "model": "discrete"}', 422, "", "obs"),
    (b'{"observation": {"goal": 1, "joints": [1,2]}, "model": "dict"}', 422, "", "camera"),
]


@pytest.mark.parametrize(("body", "status", "code", "field"), BAD_REQUESTS)
def test_an_invalid_request_gets_the_documented_error(
    server: Server, body: bytes, status: int, code: str, field: str | None
) -> None:
    headers = {"content-type": "application/json"}
    response = server.client.post("/predict", content=body, headers=headers)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"code", "message", "field", "expected", "received"}
    assert "Traceback" not in response.text
    assert not code or error["code"] == code
    assert field is None or error["field"] == field


def test_booleans_are_true_and_false_or_0_and_1(server: Server, models: Path) -> None:
    flags = [True, False, False, True, True]
    want, _ = OnnxPolicy(models / "bool_box" / "policy.onnx").predict(np.array(flags))
    for same in (flags, [int(flag) for flag in flags], [1, False, 0, True, 1]):
        answer = server.predict(same, model="bool_box").json()
        np.testing.assert_array_equal(np.float32(answer["action"]), want)


def test_an_unknown_content_type_is_refused(server: Server) -> None:
    headers = {"content-type": "text/plain"}
    response = server.client.post("/predict", content=b"{}", headers=headers)
    assert response.status_code == 415


def test_a_body_is_refused_by_its_content_length(server: Server) -> None:
    response = server.client.post("/predict", content=b" " * (8 * 1024 * 1024 + 1))
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "body_too_large"


def test_a_chunked_body_is_refused_when_it_exceeds_the_limit(server: Server) -> None:
    chunks = (b" " * 65536 for _ in range(200))
    response = server.client.post("/predict", content=chunks)
    assert response.status_code == 413


def test_a_batch_above_the_limit_is_refused(server: Server) -> None:
    response = server.predict([[0, 0, 0, 0]] * 1025, model="box")
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "batch_too_large"


def test_a_wrong_method_is_answered_with_the_allowed_one(server: Server) -> None:
    response = server.client.get("/predict")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize("path", ["/predict", "/models/box/predict"])
def test_the_address_of_predictions_in_a_browser_shows_the_command(
    server: Server, path: str
) -> None:
    """The command works after the dots and the placeholder are filled in."""
    message = server.client.get(path).json()["error"]["message"]
    assert message.startswith("use POST here, as in: curl ")
    command = message.partition("as in: ")[2].partition("; /docs")[0].replace("NAME", "box")
    model = '"model": "box", ' if path == "/predict" else ""
    filled = command.replace('{"observation": [...]}', f'{{{model}"observation": [0, 0, 0, 0]}}')
    _, address, _, header, _, body = shlex.split(filled)
    response = server.client.post(
        f"http://{address}", content=body, headers=dict([header.split(": ")])
    )
    assert response.status_code == 200, response.text
    assert "curl" not in server.client.post("/models").json()["error"]["message"]


def test_requests_are_counted_by_model_and_errors_by_kind(server: Server) -> None:
    def value(line: str) -> float:
        rows = server.client.get("/metrics").text.splitlines()
        return sum(float(row.rsplit(" ", 1)[1]) for row in rows if row.startswith(line))

    counter = 'trpo_deploy_requests_total{endpoint="/predict",model="box",status="200"}'
    kind = 'trpo_deploy_errors_total{code="missing_key",model=""}'
    latency = 'trpo_deploy_request_seconds_count{endpoint="/predict",model="box"}'
    before = value(counter), value(kind), value(latency)
    server.predict([1, 2, 3, 4], model="box")
    server.client.post("/predict", json={})
    assert (value(counter), value(kind), value(latency)) == tuple(x + 1 for x in before)


def test_unknown_paths_do_not_grow_the_metrics(server: Server) -> None:
    size = len(server.client.get("/metrics").content)
    for number in range(300):
        assert server.client.get(f"/unknown/{number}").status_code == 404
        assert server.client.get(f"/static_content/{number}").status_code == 404
    assert len(server.client.get("/metrics").content) < size + 2000


def test_readiness_lists_the_status_of_each_model(server: Server) -> None:
    assert server.client.get("/livez").status_code == 200
    ready = server.client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["models"] == dict.fromkeys(model_names.ALL, "ready")


@pytest.mark.parametrize("name", ACTION_SPACES)
def test_actions_are_sampled_if_the_file_has_the_distribution(server: Server, name: str) -> None:
    batch = [[0.1, 0.2, -0.1, 0.3]] * 64
    asked = {"model": f"sampled-{name}", "deterministic": False}
    drawn = server.predict(batch, **asked).json()["action"]
    assert len({json.dumps(action) for action in drawn}) > 1
    space = ACTION_SPACES[name]
    space.check_values(np.asarray(drawn, space.dtype), "action")
