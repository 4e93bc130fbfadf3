"""A policy with stacked frames continues an episode: by the client's state or the connection."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from websockets.sync.client import connect

from tests.runtime.policy_files import IMAGE
from tests.serve.server import Server
from trpo_deploy.runtime import OnnxPolicy, Session
from trpo_deploy.serve.models.own_registry import own_registry
from trpo_deploy.serve.protocols.predict import Predictor
from trpo_deploy.serve.protocols.predict_request import PredictRequest
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.spaces import Array

Episode = list[tuple[Array, Array]]


@pytest.fixture(scope="module")
def policy(models: Path) -> OnnxPolicy:
    return OnnxPolicy(models / "stacked-image" / "policy.onnx")


@pytest.fixture
def episode(policy: OnnxPolicy) -> Episode:
    """Frames, and the actions of a session. The frames are equal, only the state differs."""
    session = Session(policy)
    pairs = [(frame, session.act(frame)) for frame in [IMAGE.sample(np.random.default_rng(1))] * 5]
    assert len({action.tobytes() for _, action in pairs}) == 3
    return pairs


def test_over_http_the_client_carries_the_state(server: Server, episode: Episode) -> None:
    state = None
    for frame, action in episode:
        answer = server.predict(frame.tolist(), model="stacked-image", state=state).json()
        np.testing.assert_array_equal(np.asarray(answer["action"], np.float32), action)
        state = answer["state"]


def test_a_websocket_keeps_the_state_until_it_is_reset(server: Server, episode: Episode) -> None:
    with connect(server.websocket_url("stacked-image")) as socket:
        for binary in (True, False):
            for frame, action in episode:
                if binary:
                    socket.send(frame.tobytes())
                    got = np.frombuffer(socket.recv(decode=False), np.float32)
                else:
                    socket.send(json.dumps({"observation": frame.tolist()}))
                    answer = json.loads(socket.recv())
                    assert "state" not in answer
                    got = np.asarray(answer["action"], np.float32)
                np.testing.assert_array_equal(got, action)
            socket.send('{"reset": true}')
            assert socket.recv() == '{"reset": true}'


def test_over_v2_the_client_feeds_the_state_back(
    server: Server, policy: OnnxPolicy, episode: Episode
) -> None:
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    state = policy.spec.states[0].zeros(1)
    for frame, action in episode:
        inputs = []
        for name, array in (("obs", frame[None]), ("state_obs", state)):
            tensor = triton.InferInput(name, list(array.shape), "UINT8")
            inputs.append(tensor.set_data_from_numpy(array))
        result = client.infer("stacked-image", inputs)
        np.testing.assert_array_equal(result.as_numpy("action")[0], action)
        state = result.as_numpy("next_state_obs")
    client.close()


@pytest.mark.parametrize(
    ("model", "state", "status"),
    [
        ("stacked-box", "!", 422),
        ("stacked-box", "abc", 422),
        ("stacked-box", b64encode(bytes(9)).decode(), 422),
        ("stacked-box", b64encode(np.array([np.nan, 0], np.float32).tobytes()).decode(), 422),
        ("stacked-box", 1, 422),
        ("stacked-box", b64encode(bytes(8)).decode(), 200),
        ("box", b64encode(bytes(8)).decode(), 422),
    ],
)
def test_a_state_is_accepted_only_if_it_fits_the_policy(
    server: Server, model: str, state: Any, status: int
) -> None:
    observation = [0, 0] if model == "stacked-box" else [0, 0, 0, 0]
    response = server.predict(observation, model=model, state=state)
    assert response.status_code == status, response.text


@pytest.mark.parametrize("shape", [[1, 5], [2, 2], None])
def test_a_state_tensor_of_another_shape_is_refused(
    server: Server, shape: list[int] | None
) -> None:
    tensors = [{"name": "obs", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}]
    if shape is not None:
        data = [0] * int(np.prod(shape))
        tensors.append({"name": "state_obs", "datatype": "FP32", "shape": shape, "data": data})
    response = server.client.post("/v2/models/stacked-box/infer", json={"inputs": tensors})
    assert response.status_code == 422, response.text


def test_another_worker_continues_an_episode(models: Path, episode: Episode) -> None:
    """Two predictors with their own registries are as separate as two workers."""
    settings = Settings(models=(models / "stacked-image",))
    predictors = [Predictor(own_registry(settings)[0], settings) for _ in range(2)]
    state = None
    for step, (frame, want) in enumerate(episode):
        reply = predictors[step % 2].reply(PredictRequest(frame.tolist(), state=state))
        answer = json.loads(reply.body)
        np.testing.assert_array_equal(np.asarray(answer["action"], np.float32), want)
        state = answer["state"]
