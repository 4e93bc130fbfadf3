"""WS /ws/NAME: one frame in, one frame out; an error keeps the connection open."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.serve.server import Server, running
from trpo_deploy.runtime import OnnxPolicy

HOPPER = Path(__file__).parents[3] / "models" / "Hopper-v5"


def test_a_text_frame_gets_the_answer_of_predict(server: Server) -> None:
    with connect(server.websocket_url("box")) as socket:
        for number in range(3):
            socket.send(json.dumps({"observation": [number, 2, 3, 4]}))
            want = server.predict([number, 2, 3, 4], model="box").json()
            assert json.loads(socket.recv()) == want


ARRAYS = ["box", "bounded_box", "float64_box", "discrete", "multi_binary", "image", "bool_box"]


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("rows", [None, 1, 3])
def test_a_binary_frame_has_one_observation_or_a_batch_if_the_url_says_so(
    server: Server, models: Path, name: str, rows: int | None
) -> None:
    policy = OnnxPolicy(models / name / "policy.onnx")
    observation = np.asarray(policy.spec.sample_observation(np.random.default_rng(7)))
    array = observation if rows is None else np.stack([observation] * rows)
    query = "" if rows is None else "?batch=true"
    with connect(server.websocket_url(name) + query) as socket:
        for _ in range(2):
            socket.send(array.tobytes())
            want, _ = policy.predict(array)
            got = np.frombuffer(socket.recv(decode=False), want.dtype).reshape(want.shape)
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize(
    ("name", "dtypes"),
    [
        ("box", ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"]),
        ("float64_box", ["float32", "float64"]),
        ("discrete", ["int8", "int16", "int32", "int64"]),
        ("image", ["uint8", "uint16", "int64"]),
        ("bool_box", ["bool", "uint8", "int64"]),
    ],
)
def test_numbers_of_the_urls_dtype_are_converted_as_by_predict(
    server: Server, models: Path, name: str, dtypes: list[str], rows: int | None
) -> None:
    policy = OnnxPolicy(models / name / "policy.onnx")
    space = policy.spec.observation_spaces["obs"]
    for dtype in dtypes:
        numbers = np.random.default_rng(3).integers(0, 2, space.shape) + (dtype[0] == "f") / 3
        array = np.asarray(numbers, dtype)
        array = array if rows is None else np.stack([array] * rows)
        query = f"?dtype={dtype}" + ("" if rows is None else "&batch=true")
        with connect(server.websocket_url(name) + query) as socket:
            socket.send(array.tobytes())
            want, _ = policy.predict(array)
            got = np.frombuffer(socket.recv(decode=False), want.dtype).reshape(want.shape)
            np.testing.assert_array_equal(got, want)


def test_mujocos_float64_observations_get_the_action_of_each() -> None:
    policy = OnnxPolicy(HOPPER / "policy.onnx")
    rng = np.random.default_rng(0)
    observations = [np.asarray(policy.spec.sample_observation(rng), float) for _ in range(300)]
    with running(HOPPER) as server:
        with connect(server.websocket_url(HOPPER.name) + "?dtype=float64") as socket:
            for observation in observations:
                socket.send(observation.tobytes())
                got = np.frombuffer(socket.recv(decode=False), np.float32)
                np.testing.assert_array_equal(got, policy.predict(observation)[0])
        with connect(server.websocket_url(HOPPER.name)) as socket:
            socket.send(observations[0].tobytes())
            error = json.loads(socket.recv())["error"]
    assert error["code"] == "wrong_size"
    for part in ("44 bytes", "88", "?dtype=float64", "?batch=true"):
        assert part in error["message"]


@pytest.mark.parametrize(
    ("query", "frame"),
    [
        ("?batch=true", b""),
        ("?batch=true", bytes(17)),
        ("?batch=true&dtype=float64", bytes(16)),
        ("?batch=true", bytes(16) * 1025),
        ("?batch=false", bytes(32)),
        ("?dtype=float64", bytes(16)),
        ("?dtype=float16", b"\xff" * 8),
        ("?dtype=float64", np.full(4, 1e300).tobytes()),
    ],
)
def test_a_frame_that_does_not_fit_the_url_gets_an_error(
    server: Server, query: str, frame: bytes
) -> None:
    with connect(server.websocket_url("box") + query) as socket:
        socket.send(frame)
        assert "error" in json.loads(socket.recv())
        socket.send(json.dumps({"observation": [1, 2, 3, 4]}))
        assert "action" in json.loads(socket.recv())


@pytest.mark.parametrize(
    ("name", "query", "says"),
    [
        ("box", "dtype=complex64", "float64"),
        ("box", "dtype=", "float64"),
        ("box", "dtype=object", "float64"),
        ("box", "dtype=%F0%9F%A4%96", "float64"),
        ("discrete", "dtype=float32", "int64"),
        ("bool_box", "dtype=float32", "bool"),
        ("box", "dtype=float64&dtype=float32", "once"),
        ("box", "batch=1", "true or false"),
        ("box", "batch", "dtype=float64&batch=true"),
        ("box", "token=secret", "dtype and batch"),
        ("box", "&".join(["batch=true"] * 9), "dtype=float64&batch=true"),
        ("dict", "dtype=float32", "text frames"),
        ("dict", "batch=true", "text frames"),
    ],
)
def test_a_parameter_that_is_not_possible_is_refused_at_the_handshake(
    server: Server, name: str, query: str, says: str
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        connect(server.websocket_url(name) + "?" + query)
    assert caught.value.response.status_code == 422
    error = json.loads(caught.value.response.body or b"")["error"]
    assert error["code"] == "bad_parameter"
    assert says in error["message"]


def test_a_binary_frame_to_a_dict_space_is_told_to_be_text(server: Server) -> None:
    with connect(server.websocket_url("dict")) as socket:
        socket.send(bytes(16))
        error = json.loads(socket.recv())["error"]
    assert "text frame" in error["message"]
    assert "camera" in error["expected"]


def test_frames_above_256_kib_are_answered_as_well(server: Server, models: Path) -> None:
    policy = OnnxPolicy(models / "image" / "policy.onnx")
    batch = np.random.default_rng(0).integers(0, 256, (1000, 12, 12, 3), np.uint8)
    want, _ = policy.predict(batch)
    with connect(server.websocket_url("image") + "?batch=true", max_size=None) as socket:
        socket.send(batch.tobytes())
        got = np.frombuffer(socket.recv(decode=False), want.dtype).reshape(want.shape)
        np.testing.assert_array_equal(got, want)
        socket.send(json.dumps({"observation": batch.tolist()}))
        np.testing.assert_array_equal(np.float32(json.loads(socket.recv())["action"]), want)


INVALID_FRAMES: list[str | bytes] = [
    *("", "no json", "[]", "{}", '{"observation": [1]}', "\x00" * 10),
    '{"observation": [1,2,3,4], "model": "image"}',
    *('{"observation": [1,2,3,"4"]}', '{"observation": [1,2,3,true]}'),
    *(b"", b"123", b"\xff" * 16, bytes(32)),
]


@pytest.mark.parametrize("frame", INVALID_FRAMES)
def test_an_invalid_frame_gets_an_error_and_the_connection_stays_open(
    server: Server, frame: str | bytes
) -> None:
    with connect(server.websocket_url("box")) as socket:
        socket.send(frame)
        assert "error" in json.loads(socket.recv())
        socket.send(json.dumps({"observation": [1, 2, 3, 4]}))
        assert "action" in json.loads(socket.recv())


def test_a_frame_above_the_limit_ends_only_its_own_connection(server: Server) -> None:
    with (
        connect(server.websocket_url("box")) as other,
        connect(server.websocket_url("box")) as socket,
    ):
        # The close code 1009 may get lost: the server closes while the client is sending.
        with pytest.raises(ConnectionClosed):
            _send_and_receive(socket, bytes(9 * 1024 * 1024))
        assert len(_send_and_receive(other, bytes(16))) == 8


def _send_and_receive(socket: ClientConnection, frame: bytes) -> str | bytes:
    socket.send(frame)
    return socket.recv()


@pytest.mark.parametrize(("path", "status"), [("ws/nobody", 404), ("ws", 404), ("predict", 404)])
def test_an_unknown_path_is_refused_before_the_handshake(
    server: Server, path: str, status: int
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        connect(server.url.replace("http", "ws") + f"/{path}")
    assert caught.value.response.status_code == status
    assert b'"code"' in (caught.value.response.body or b"")
