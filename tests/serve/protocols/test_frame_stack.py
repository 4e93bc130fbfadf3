"""Policies that remember frames: by a state that the client carries, or by the connection."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from tests.runtime.policy_files import ACTION_SPACES, IMAGE, box, write_policy
from tests.serve.server import Server, running
from trpo_deploy.runtime import OnnxPolicy, Session


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, OnnxPolicy]]:
    root = tmp_path_factory.mktemp("stacked")
    file = write_policy(root / "frames" / "policy.onnx", IMAGE, frames=3)
    write_policy(root / "plain" / "policy.onnx")
    write_policy(root / "floats" / "policy.onnx", box(2), frames=2)
    for name in ACTION_SPACES:
        space = ACTION_SPACES[name]
        path = root / f"random-{name}" / "policy.onnx"
        write_policy(path, action_space=space, distribution=True)
    with running(root, workers=2) as server:
        yield server, OnnxPolicy(file)


@pytest.fixture
def wanted(stacked: tuple[Server, OnnxPolicy]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames of an episode, with the actions of a session."""
    rng = np.random.default_rng(1)
    session = Session(stacked[1])
    pairs = [(frame, session.act(frame)) for frame in [IMAGE.sample(rng)] * 5]
    # The same frame again and again: what differs is what is remembered.
    assert len({action.tobytes() for _, action in pairs}) == 3
    return pairs


def test_over_http_the_client_carries_the_state(
    stacked: tuple[Server, OnnxPolicy], wanted: list[Any]
) -> None:
    state = None
    for frame, action in wanted:
        answer = stacked[0].predict(frame.tolist(), model="frames", state=state).json()
        np.testing.assert_array_equal(np.float32(answer["action"]), action)
        state = answer["state"]


def test_a_websocket_keeps_the_state_until_it_is_reset(
    stacked: tuple[Server, OnnxPolicy], wanted: list[Any]
) -> None:
    with connect(stacked[0].url.replace("http", "ws") + "/ws/frames") as socket:
        for binary in (True, False):
            for frame, action in wanted:
                if binary:
                    socket.send(frame.tobytes())
                    got = np.frombuffer(socket.recv(), np.float32)
                else:
                    socket.send(json.dumps({"observation": frame.tolist()}))
                    answer = json.loads(socket.recv())
                    assert "state" not in answer
                    got = np.float32(answer["action"])
                np.testing.assert_array_equal(got, action)
            socket.send('{"reset": true}')
            assert socket.recv() == '{"reset": true}'


def test_over_v2_the_client_feeds_the_output_back(
    stacked: tuple[Server, OnnxPolicy], wanted: list[Any]
) -> None:
    import tritonclient.http as triton

    server, policy = stacked
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    state = policy.spec.states[0].zeros(1)
    for frame, action in wanted:
        inputs = []
        for name, array in (("obs", frame[None]), ("state_obs", state)):
            tensor = triton.InferInput(name, list(array.shape), "UINT8")
            inputs.append(tensor.set_data_from_numpy(array))
        result = client.infer("frames", inputs)
        np.testing.assert_array_equal(result.as_numpy("action")[0], action)
        state = result.as_numpy("next_state_obs")
    client.close()


@pytest.mark.parametrize(
    ("model", "state", "status"),
    [
        ("floats", "!", 422),
        ("floats", "abc", 422),
        ("floats", b64encode(bytes(9)).decode(), 422),
        ("floats", b64encode(np.float32([np.nan, 0]).tobytes()).decode(), 422),
        ("floats", 1, 422),
        ("floats", b64encode(bytes(8)).decode(), 200),
        ("plain", b64encode(bytes(8)).decode(), 422),
    ],
)
def test_a_state_that_is_none_is_refused(
    stacked: tuple[Server, OnnxPolicy], model: str, state: Any, status: int
) -> None:
    observation = [0, 0] if model == "floats" else [0, 0, 0, 0]
    response = stacked[0].predict(observation, model=model, state=state)
    assert response.status_code == status, response.text


@pytest.mark.parametrize("shape", [[1, 5], [2, 2], None])
def test_a_state_tensor_that_does_not_fit_is_refused(
    stacked: tuple[Server, OnnxPolicy], shape: list[int] | None
) -> None:
    tensors = [{"name": "obs", "datatype": "FP32", "shape": [1, 2], "data": [0, 0]}]
    if shape is not None:
        data = [0] * int(np.prod(shape))
        tensors.append({"name": "state_obs", "datatype": "FP32", "shape": shape, "data": data})
    response = stacked[0].client.post("/v2/models/floats/infer", json={"inputs": tensors})
    assert response.status_code == 422, response.text


@pytest.mark.parametrize("name", ACTION_SPACES)
def test_actions_are_drawn_where_the_file_tells_the_distribution(
    stacked: tuple[Server, OnnxPolicy], name: str
) -> None:
    batch = [[0.1, 0.2, -0.1, 0.3]] * 64
    asked = {"model": f"random-{name}", "deterministic": False}
    drawn = stacked[0].predict(batch, **asked).json()["action"]
    assert len({json.dumps(action) for action in drawn}) > 1
    space = ACTION_SPACES[name]
    space.check_values(np.asarray(drawn, space.dtype), "action")
