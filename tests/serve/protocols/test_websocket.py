"""WS /ws/NAME: one frame in, one frame out; an error keeps the connection open."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.serve.server import Server
from trpo_deploy.runtime import OnnxPolicy


def test_a_text_frame_gets_the_answer_of_predict(server: Server) -> None:
    with connect(server.websocket_url("box")) as socket:
        for number in range(3):
            socket.send(json.dumps({"observation": [number, 2, 3, 4]}))
            want = server.predict([number, 2, 3, 4], model="box").json()
            assert json.loads(socket.recv()) == want


@pytest.mark.parametrize("name", ["box", "bounded_box", "discrete", "image", "bool_box"])
def test_a_binary_frame_has_one_observation_or_several(
    server: Server, models: Path, name: str
) -> None:
    policy = OnnxPolicy(models / name / "policy.onnx")
    one = np.asarray(policy.spec.sample_observation(np.random.default_rng(7)))
    with connect(server.websocket_url(name)) as socket:
        for array in (one, np.stack([one] * 3)):
            socket.send(array.tobytes())
            want, _ = policy.predict(array)
            got = np.frombuffer(socket.recv(decode=False), want.dtype).reshape(want.shape)
            np.testing.assert_array_equal(got, want)


INVALID_FRAMES: list[str | bytes] = [
    *("", "no json", "[]", "{}", '{"observation": [1]}', "\x00" * 10),
    '{"observation": [1,2,3,4], "model": "image"}',
    *(b"", b"123", b"\xff" * 16),
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
