"""The Open Inference Protocol, with Triton's client and with hand-written JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.runtime.policy_files import OBSERVATION_SPACES, box, write_policy
from tests.serve import model_names
from tests.serve.server import Server, running
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.spaces import Array, DictSpace


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    yield client
    client.close()


def batch_of(policy: OnnxPolicy, rows: int) -> dict[str, Array]:
    """ONNX inputs for a batch of valid observations."""
    rng = np.random.default_rng(5)
    singles = [policy.spec.validate(policy.spec.sample_observation(rng))[0] for _ in range(rows)]
    return {name: np.concatenate([row[name] for row in singles]) for name in singles[0]}


def triton_inputs(arrays: dict[str, Array], binary: bool) -> list[Any]:
    inputs = []
    for name, array in arrays.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", model_names.DETERMINISTIC)
def test_tritons_client_receives_the_policys_actions(
    client: Any, models: Path, name: str, binary: bool
) -> None:
    policy = OnnxPolicy(models / name / "policy.onnx")
    arrays = batch_of(policy, 3)
    outputs = [triton.InferRequestedOutput("action", binary_data=binary)]
    result = client.infer(name, triton_inputs(arrays, binary), outputs=outputs, request_id="7")
    np.testing.assert_array_equal(result.as_numpy("action"), policy.run(["action"], arrays)[0])
    assert result.get_response()["id"] == "7"
    assert result.get_response()["model_version"] == policy.sha256[:12]


def test_a_renamed_input_has_its_name_here_and_its_key_in_predict(tmp_path: Path) -> None:
    space = DictSpace({"action": box(2), "joints": box(3)})
    policy = OnnxPolicy(write_policy(tmp_path / "names" / "policy.onnx", space))
    observation = {"action": [[0.1, -0.2]], "joints": [[0.3, 0.4, -0.5]]}
    want, _ = policy.predict(observation)
    with running(tmp_path / "names") as server:
        answer = server.predict(observation).json()
        np.testing.assert_array_equal(np.float32(answer["action"]), want)
        described = server.client.get("/v2/models/names").json()["inputs"]
        assert [each["name"] for each in described] == ["obs_action", "joints"]
        client = triton.InferenceServerClient(server.url.removeprefix("http://"))
        named = {"obs_action": observation["action"], "joints": observation["joints"]}
        arrays = {name: np.array(each, np.float32) for name, each in named.items()}
        inputs = triton_inputs(arrays, binary=True)
        np.testing.assert_array_equal(client.infer("names", inputs).as_numpy("action"), want)
        with pytest.raises(InferenceServerException, match="names out of"):
            client.infer("names", triton_inputs({**arrays, "action": arrays["obs_action"]}, True))
        client.close()


def test_tritons_client_understands_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("dict")
    assert not client.is_model_ready("nobody")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("dict")
    assert metadata["inputs"][0] == {
        "name": "camera",
        "datatype": "UINT8",
        "shape": [-1, 12, 12, 3],
    }
    states = {row["name"]: row["state"] for row in client.get_model_repository_index()}
    assert states == dict.fromkeys(model_names.ALL, "READY")


def test_a_loaded_version_can_be_requested(client: Any, models: Path) -> None:
    policy = OnnxPolicy(models / "box" / "policy.onnx")
    inputs = triton_inputs(batch_of(policy, 1), binary=True)
    result = client.infer("box", inputs, model_version=policy.sha256[:12])
    assert result.as_numpy("action").shape == (1, 2)
    with pytest.raises(InferenceServerException, match="no version 'old'"):
        client.infer("box", inputs, model_version="old")


def test_all_outputs_are_returned_by_default(server: Server) -> None:
    body = {"inputs": [{"name": "obs", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    answer = server.client.post("/v2/models/box/infer", json=body).json()
    (output,) = answer["outputs"]
    assert output["name"] == "action"
    assert output["shape"] == [1, 2]
    want = server.predict([[1, 2, 3, 4]], model="box").json()["action"]
    assert [output["data"]] == want


def obs(**changes: Any) -> dict[str, Any]:
    """A valid request for the model ``box``, with one part of its input changed."""
    tensor = {"name": "obs", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    return {"inputs": [{**tensor, **changes}]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": None},
        {"inputs": []},
        {"inputs": [1]},
        {"inputs": [{"name": 1}]},
        {"inputs": obs()["inputs"] * 2},
        {**obs(), "outputs": 1},
        {**obs(), "outputs": [{"name": "nothing"}]},
        {**obs(), "parameters": 1},
        {**obs(), "outputs": [{"name": "action", "parameters": []}]},
        obs(name="other"),
        obs(datatype="FP64"),
        obs(datatype="BYTES"),
        obs(datatype=None),
        obs(shape=[4]),
        obs(shape=[1, 5]),
        obs(shape=[-1, 4]),
        obs(shape=["1", 4]),
        obs(shape=[1] * 70),
        obs(shape=[2**40, 2**40]),
        obs(shape=[0, 4], data=[1]),
        obs(shape=None),
        obs(data=None),
        obs(data="1234"),
        obs(data=[1, 2, 3]),
        obs(data=[1, 2, 3, "4"]),
        obs(data=[1, 2, 3, 1e300]),
        obs(data=[[1, 2], [3]]),
        obs(data=[1, 2, 3, {}]),
        obs(parameters={"binary_data_size": 16}),
        obs(parameters={"binary_data_size": -1}),
        obs(parameters={"binary_data_size": "16"}),
        obs(parameters=[]),
        obs(data=[1, 2, 3, True]),
        obs(data=[1, 2, 3, None]),
        obs(data=["1", "2", "3", "4"]),
        obs(data=[1, 2, 3, "x" * 10_000]),
        obs(parameters={"binary_data_size": 0}),
        obs(shape=[0, 4], data=[]),
        obs(shape=[0, 2**31 - 1, 2**31 - 1, 2**31 - 1], data=[]),
    ],
)
def test_an_invalid_request_gets_the_protocols_error(server: Server, body: Any) -> None:
    response = server.client.post("/v2/models/box/infer", json=body)
    assert response.status_code == 422, response.text
    assert list(response.json()) == ["error"]
    assert isinstance(response.json()["error"], str)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": ["DEEP"]},
        {"inputs": "DEEP"},
        {**obs(), "id": "DEEP"},
        {**obs(), "model_name": "DEEP"},
        {**obs(), "outputs": ["DEEP"]},
        {**obs(), "parameters": "DEEP"},
        *(obs(**{key: "DEEP"}) for key in ("name", "datatype", "shape", "data", "parameters")),
    ],
)
def test_a_thousand_nested_lists_are_refused_in_any_place(server: Server, body: Any) -> None:
    content = orjson.dumps(body).replace(b'"DEEP"', b"[" * 1000 + b"]" * 1000)
    response = server.client.post("/v2/models/box/infer", content=content)
    assert response.status_code == 422, response.text


ACTION = {"name": "action"}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({**obs(), "parameters": {"sequence_id": 1, "sequence_start": True}}, "sequence_id"),
        ({**obs(), "parameters": {"sequence_end": False}}, "sequence_end"),
        ({**obs(), "parameters": {"priority": 1}}, "priority"),
        ({**obs(), "parameters": {"timeout": 5}}, "timeout"),
        ({**obs(), "parameters": {"mine": 5}}, "mine"),
        ({**obs(), "parameters": {"binary_data_output": 1}}, "binary_data_output"),
        ({**obs(), "output": []}, "output"),
        ({**obs(), "id": 7}, "id"),
        ({**obs(), "model_name": "image"}, "model_name"),
        (obs(parameters={"shared_memory_region": "a"}), "shared_memory_region"),
        (obs(parameters={"content_type": "np"}), "content_type"),
        (obs(content_type="np"), "content_type"),
        ({**obs(), "outputs": [ACTION, ACTION]}, "action"),
        ({**obs(), "outputs": [{**ACTION, "parameters": {"classification": 2}}]}, "classification"),
        ({**obs(), "outputs": [{**ACTION, "parameters": {"binary_data": "no"}}]}, "binary_data"),
        ({**obs(), "outputs": [{**ACTION, "shape": [1]}]}, "shape"),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(
    server: Server, body: Any, named: str
) -> None:
    response = server.client.post("/v2/models/box/infer", json=body)
    assert response.status_code == 422, response.text
    assert named in response.json()["error"]


def test_tritons_client_is_told_that_sequences_are_not_supported(client: Any, models: Path) -> None:
    inputs = triton_inputs(batch_of(OnnxPolicy(models / "box" / "policy.onnx"), 1), binary=True)
    for option in ({"sequence_id": 3, "sequence_start": True}, {"priority": 1}, {"timeout": 10}):
        with pytest.raises(InferenceServerException, match=next(iter(option))[:9]):
            client.infer("box", inputs, **option)


def test_the_name_of_the_model_and_no_id_may_be_in_the_body(server: Server) -> None:
    body = {**obs(), "model_name": "box", "id": None}
    answer = server.client.post("/v2/models/box/infer", json=body)
    assert answer.status_code == 200, answer.text
    assert "id" not in answer.json()


@pytest.mark.parametrize("name", OBSERVATION_SPACES)
def test_an_empty_batch_is_refused_by_all_protocols(
    server: Server, client: Any, models: Path, name: str
) -> None:
    policy = OnnxPolicy(models / name / "policy.onnx")
    arrays = {key: array[:0] for key, array in batch_of(policy, 1).items()}
    for binary in (True, False):
        with pytest.raises(InferenceServerException, match="empty batch"):
            client.infer(name, triton_inputs(arrays, binary))
    lists = {key: array.tolist() for key, array in arrays.items()}
    observation: Any = lists if name == "dict" else lists["obs"]
    answer = server.predict(observation, model=name)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "observation_shape"
    if name != "dict":
        headers = {
            "content-type": "application/octet-stream",
            "x-tensor-dtype": str(arrays["obs"].dtype),
            "x-tensor-shape": ",".join(map(str, arrays["obs"].shape)),
        }
        answer = server.client.post(f"/models/{name}/predict", content=b"", headers=headers)
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "observation_shape"


@pytest.mark.parametrize(
    ("length", "binary"),
    [
        *(("x", b""), ("-1", b""), ("99999", b""), (None, b"1")),
        *(("9" * 5000, b""), ("+1", b""), ("1_0", b""), ("0x1", b""), ("\u0661", b"")),
    ],
)
def test_a_wrong_binary_size_is_refused(server: Server, length: str | None, binary: bytes) -> None:
    header = orjson.dumps(obs())
    headers = [(b"inference-header-content-length", (length or str(len(header))).encode())]
    content = header + binary
    response = server.client.post("/v2/models/box/infer", content=content, headers=headers)
    assert response.status_code == 422, response.text


def test_an_empty_binary_tensor_with_long_axes_is_refused(server: Server) -> None:
    tensor = obs()["inputs"][0] | {"shape": [0, *[2**31 - 1] * 4]}
    del tensor["data"]
    header = orjson.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 0}}]})
    response = server.client.post("/v2/models/box/infer", content=header)
    assert response.status_code == 422, response.text


@pytest.mark.parametrize("name", OBSERVATION_SPACES)
def test_metadata_has_a_free_batch_axis(server: Server, name: str) -> None:
    metadata = server.client.get(f"/v2/models/{name}").json()
    assert metadata["name"] == name
    assert all(tensor["shape"][0] == -1 for tensor in metadata["inputs"])
