"""Triton's gRPC client, unchanged; all answers are those of the policy and of HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import pytest
import tritonclient.grpc as triton
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.runtime.policy_files import OBSERVATION_SPACES
from tests.serve import model_names
from tests.serve.grpc.requests import (
    LISTS,
    MESSAGES,
    SERVICE,
    batch_of,
    box_request,
    infer_request,
    triton_inputs,
)
from tests.serve.server import Server
from trpo_deploy.runtime import OnnxPolicy


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Any]:
    client = triton.InferenceServerClient(server.grpc)
    yield client
    client.close()


@pytest.fixture(scope="module")
def infer(channel: Any) -> Any:
    return channel.unary_unary(
        f"{SERVICE}/ModelInfer",
        request_serializer=MESSAGES.ModelInferRequest.SerializeToString,
        response_deserializer=MESSAGES.ModelInferResponse.FromString,
    )


def values_of(response: Any) -> Any:
    """The first output of a reply with lists of numbers."""
    (output,) = response.outputs
    return np.reshape(getattr(output.contents, LISTS[output.datatype]), output.shape)


@pytest.mark.parametrize("name", model_names.DETERMINISTIC)
def test_the_client_receives_the_policys_actions(
    client: Any, infer: Any, models: Path, name: str
) -> None:
    policy = OnnxPolicy(models / name / "policy.onnx")
    arrays = batch_of(policy, 3)
    want = policy.run(["action"], arrays)[0]
    result = client.infer(name, triton_inputs(arrays), request_id="7")
    np.testing.assert_array_equal(result.as_numpy("action"), want)
    assert result.as_numpy("action").dtype == want.dtype
    response = result.get_response()
    assert (response.id, response.model_version) == ("7", policy.sha256[:12])
    # The reply has the form of the request: lists of numbers for lists of numbers.
    listed = infer(infer_request(name, arrays, raw=False))
    np.testing.assert_array_equal(values_of(listed).astype(want.dtype), want)
    assert not listed.raw_output_contents


@pytest.mark.parametrize("name", model_names.SAMPLED)
def test_all_outputs_and_chosen_ones_are_those_of_http(
    client: Any, server: Server, models: Path, name: str
) -> None:
    policy = OnnxPolicy(models / name / "policy.onnx")
    arrays = batch_of(policy, 2)
    http = tritonclient.http.InferenceServerClient(server.url.removeprefix("http://"))
    inputs = []
    for key, array in arrays.items():
        inputs.append(tritonclient.http.InferInput(key, list(array.shape), "FP32"))
        inputs[-1].set_data_from_numpy(array)
    want = http.infer(name, inputs)
    http.close()
    names = [tensor.name for tensor in policy.spec.outputs]
    result = client.infer(name, triton_inputs(arrays))
    for output in names:
        np.testing.assert_array_equal(result.as_numpy(output), want.as_numpy(output))
    last = [triton.InferRequestedOutput(names[-1])]
    (only,) = client.infer(name, triton_inputs(arrays), outputs=last).get_response().outputs
    assert only.name == names[-1]


def test_frames_are_stacked_by_the_client_as_over_http(client: Any, models: Path) -> None:
    policy = OnnxPolicy(models / "stacked-box" / "policy.onnx")
    (state,) = policy.spec.states
    rng = np.random.default_rng(3)
    carried = np.zeros((1, *state.input.shape), state.input.dtype)
    own: Any = None
    for _ in range(4):
        observation = rng.normal(size=2).astype(np.float32)
        arrays = {"obs": observation[None], state.input.name: carried}
        result = client.infer("stacked-box", triton_inputs(arrays))
        action, own = policy.predict(observation, own)
        np.testing.assert_array_equal(result.as_numpy("action")[0], action)
        carried = result.as_numpy(state.output)
    with pytest.raises(InferenceServerException, match="zeros at first"):
        client.infer("stacked-box", triton_inputs({"obs": observation[None]}))


def test_health_metadata_and_index(client: Any, server: Server) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("dict")
    assert not client.is_model_ready("nobody")
    assert not client.is_model_ready("dict", "old")
    assert "binary_tensor_data" in client.get_server_metadata().extensions
    index = client.get_model_repository_index().models
    assert {row.name: row.state for row in index} == dict.fromkeys(model_names.ALL, "READY")
    for name in OBSERVATION_SPACES:
        described = client.get_model_metadata(name, as_json=True)
        for tensor in [*described["inputs"], *described["outputs"]]:
            tensor["shape"] = [int(size) for size in tensor["shape"]]
        assert described == server.client.get(f"/v2/models/{name}").json()


def test_a_loaded_version_can_be_requested(client: Any, models: Path) -> None:
    policy = OnnxPolicy(models / "box" / "policy.onnx")
    inputs = triton_inputs(batch_of(policy, 1))
    version = policy.sha256[:12]
    assert client.infer("box", inputs, model_version=version).as_numpy("action").shape == (1, 2)
    with pytest.raises(InferenceServerException, match=r"NOT_FOUND\] model 'box' has no version"):
        client.infer("box", inputs, model_version="old")


@pytest.mark.parametrize(
    ("service", "status"), [(b"", b"\x08\x01"), (b"\n\x1e" + SERVICE[1:].encode(), b"\x08\x01")]
)
def test_the_health_service_answers_probes(channel: Any, service: bytes, status: bytes) -> None:
    assert channel.unary_unary("/grpc.health.v1.Health/Check")(service) == status


def test_an_unknown_service_and_method_are_refused(channel: Any, client: Any) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"\n\x01x")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    for call in (client.get_inference_statistics, client.get_model_config):
        words = r"UNIMPLEMENTED\] no method '/inference.*'; the service has .*, ModelInfer, "
        with pytest.raises(InferenceServerException, match=words):
            call("box")


def changed(change: Any) -> Any:
    """A valid request, changed by a function."""
    request = box_request()
    change(request)
    return request


NAN = np.full(4, np.nan, np.float32).tobytes()


@pytest.mark.parametrize(
    ("request_message", "words"),
    [
        (MESSAGES.ModelInferRequest(model_name="box"), "inputs: expected tensors, received none"),
        (box_request(name="other"), r"inputs: expected names out of \['obs'\], received other"),
        (box_request(datatype="FP64"), "takes 32 bytes, received 16"),
        (box_request(datatype="INT32"), "obs: expected datatype FP32, received INT32"),
        (box_request(datatype="BYTES"), "obs: expected a datatype of BOOL"),
        (box_request(datatype=""), "obs: expected a datatype of BOOL"),
        (box_request(shape=[4]), "the batch as first axis"),
        (box_request(shape=[1, 5]), "takes 20 bytes, received 16"),
        (box_request(shape=[2, 2]), "received shape"),
        (box_request(shape=[-1, 4]), "shape of up to eight whole numbers"),
        (box_request(shape=[1] * 70), "shape of up to eight whole numbers"),
        (box_request(shape=[0, 2**31 - 1, 2**31 - 1, 4]), "takes 0 bytes, received 16"),
        (changed(lambda r: r.raw_input_contents.append(b"")), "one for each of the 1 inputs"),
        (changed(lambda r: r.raw_input_contents.__setitem__(0, NAN)), "received nan"),
        (changed(lambda r: r.inputs.append(r.inputs[0])), "one for each of the 2 inputs"),
        (changed(lambda r: r.inputs[0].contents.fp32_contents.append(1)), "received both"),
        (changed(lambda r: r.outputs.add(name="none")), "outputs: expected names out of"),
        (changed(lambda r: [r.outputs.add(name="action") for _ in "12"]), "each output once"),
        (changed(lambda r: r.parameters["timeout"].SetInParent()), "received 'timeout'"),
        (changed(lambda r: r.inputs[0].parameters["x"].SetInParent()), "obs: .*received 'x'"),
        (
            changed(lambda r: r.outputs.add(name="action").parameters["classification"]),
            "action: .*received 'classification'",
        ),
    ],
)
def test_an_invalid_request_is_refused_by_its_part(
    infer: Any, request_message: Any, words: str
) -> None:
    with pytest.raises(grpc.RpcError, match=words) as refused:
        infer(request_message)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("datatype", "lists", "words"),
    [
        ("FP32", {"fp64_contents": [1, 2, 3, 4]}, "FP32 in fp32_contents, received fp64_contents"),
        ("FP32", {"fp32_contents": [1, 2, 3]}, r"data of FP32 and shape \[1, 4\]"),
        ("FP32", {}, r"data of FP32 and shape \[1, 4\]"),
        ("FP16", {"fp32_contents": [1, 2, 3, 4]}, "FP16 as raw_input_contents, received FP16"),
        ("INT8", {"int_contents": [1, 2, 3, 300]}, "INT8 numbers"),
        ("UINT8", {"int_contents": [1, 2, 3, 4]}, "UINT8 in uint_contents"),
        ("FP32", {"fp32_contents": [1, 2, 3, float("inf")]}, "inf"),
    ],
)
def test_lists_of_the_wrong_numbers_are_refused(
    infer: Any, datatype: str, lists: dict[str, list[Any]], words: str
) -> None:
    request = MESSAGES.ModelInferRequest(model_name="box")
    tensor = request.inputs.add(name="obs", datatype=datatype, shape=[1, 4])
    for name, values in lists.items():
        getattr(tensor.contents, name).extend(values)
    with pytest.raises(grpc.RpcError, match=words) as refused:
        infer(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("model", "arrays"),
    [
        ("box", {"obs": np.zeros((0, 4), np.float32)}),
        ("box", {"obs": np.full((1, 4), np.inf, np.float32)}),
        ("bounded_box", {"obs": np.full((1, 2, 3), 9, np.float32)}),
        ("discrete", {"obs": np.array([99])}),
        ("box", {"obs": np.zeros((1025, 4), np.float32)}),
        ("nobody", {"obs": np.zeros((1, 4), np.float32)}),
        ("dict", {"joints": np.zeros((1, 2), np.float32)}),
    ],
)
def test_the_words_are_those_of_http(client: Any, server: Server, model: str, arrays: Any) -> None:
    inputs = [
        {
            "name": name,
            "shape": array.shape,
            "datatype": tensor.datatype(),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for (name, array), tensor in zip(arrays.items(), triton_inputs(arrays), strict=True)
    ]
    header = orjson.dumps({"inputs": inputs})
    content = header + b"".join(array.tobytes() for array in arrays.values())
    headers = {"inference-header-content-length": str(len(header))}
    answer = server.client.post(f"/v2/models/{model}/infer", content=content, headers=headers)
    codes = {422: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "RESOURCE_EXHAUSTED"}
    with pytest.raises(InferenceServerException) as refused:
        client.infer(model, triton_inputs(arrays))
    assert refused.value.status() == f"StatusCode.{codes[answer.status_code]}"
    assert refused.value.message() == answer.json()["error"]


def test_bytes_that_are_no_message_are_refused(channel: Any) -> None:
    with pytest.raises(grpc.RpcError, match="the bytes are not a request of ModelInfer") as refused:
        channel.unary_unary(f"{SERVICE}/ModelInfer")(b"\xff" * 10)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_only_model_may_be_left_unnamed_and_one_of_several_may_not(infer: Any) -> None:
    with pytest.raises(grpc.RpcError, match="several models are served"):
        infer(box_request(""))


def test_requests_are_counted_like_https(server: Server, infer: Any) -> None:
    path = f"{SERVICE}/ModelInfer"

    def count(model: str, status: int) -> float:
        labels = f'endpoint="{path}",model="{model}",status="{status}"'
        return server.metric(f"trpo_deploy_requests_total{{{labels}}}")

    answered, refused, unknown = count("box", 200), count("box", 422), count("", 404)
    infer(box_request())
    for request in (box_request(datatype="FP64"), box_request("a" * 5000)):
        with pytest.raises(grpc.RpcError):
            infer(request)
    assert count("box", 200) == answered + 1
    assert count("box", 422) == refused + 1
    assert count("", 404) == unknown + 1
    assert server.metric('trpo_deploy_errors_total{code="wrong_size",model="box"}') >= 1
    assert "aaaa" not in server.client.get("/metrics").text
