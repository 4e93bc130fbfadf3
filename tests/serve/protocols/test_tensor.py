"""Raw tensors as application/octet-stream: the action of the same array, and strict headers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.serve.server import Server
from trpo_deploy.runtime import OnnxPolicy


def post(
    server: Server, name: str, body: bytes, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    sent = {"content-type": "application/octet-stream"}
    sent |= {f"x-tensor-{key}": value for key, value in headers.items()}
    response = server.client.post(f"/models/{name}/predict", content=body, headers=sent)
    return response.status_code, dict(response.headers), response.content


@pytest.mark.parametrize(
    "name", ["box", "bounded_box", "discrete", "multi_binary", "image", "bool_box"]
)
@pytest.mark.parametrize("rows", [None, 1, 6])
def test_the_action_equals_that_of_the_array(
    server: Server, models: Path, name: str, rows: int | None
) -> None:
    policy = OnnxPolicy(models / name / "policy.onnx")
    rng = np.random.default_rng(6)
    array = np.asarray(policy.spec.sample_observation(rng))
    if rows is not None:
        array = np.stack([array] * rows)
    shape = ",".join(map(str, array.shape))
    status, headers, body = post(server, name, array.tobytes(), dtype=array.dtype.name, shape=shape)
    assert status == 200, body
    want, _ = policy.predict(array)
    got = np.frombuffer(body, headers["x-tensor-dtype"]).reshape(want.shape)
    assert headers["x-tensor-shape"] == ",".join(map(str, want.shape))
    assert headers["x-model-version"] == policy.sha256[:12]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("float32", "4", 15),
        ("float32", "4", 17),
        ("float32", "4", 0),
        ("float32", "4,4", 16),
        ("float32", "-4", 16),
        ("float32", "4;1", 16),
        ("float32", "4,", 16),
        ("float32", "999999999,999999999,999999999", 16),
        ("float32", "0,999999999,999999999,999999999", 0),
        ("float32", "999999999,999999999,999999999,0", 0),
        ("float32", "0", 0),
        ("float32", "00000000004", 16),
        ("float32", "1,1,1,1,1,1,1,1,4", 16),
        ("float32", "", 16),
        ("object", "4", 32),
        ("complex64", "4", 32),
        ("", "4", 16),
        (None, "4", 16),
        ("float32", None, 16),
    ],
)
def test_headers_that_do_not_match_the_body_are_refused(
    server: Server, dtype: str | None, shape: str | None, size: int
) -> None:
    headers = {"dtype": dtype, "shape": shape}
    sent = {key: value for key, value in headers.items() if value is not None}
    status, _, body = post(server, "box", bytes(size), **sent)
    assert status == 422, body


def test_non_finite_numbers_are_refused(server: Server) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        body = np.array([0, 0, 0, bad], np.float32).tobytes()
        status, _, answer = post(server, "box", body, dtype="float32", shape="4")
        assert status == 422
        assert b"observation_not_finite" in answer


def test_booleans_are_the_bytes_0_and_1(server: Server) -> None:
    flags = bytes([0, 1, 1, 0, 1])
    _, _, want = post(server, "bool_box", flags, dtype="bool", shape="5")
    assert post(server, "bool_box", flags, dtype="uint8", shape="5")[2] == want
    for dtype in ("bool", "uint8"):
        status, _, body = post(server, "bool_box", b"\x00\x01\x02\xff\x00", dtype=dtype, shape="5")
        assert status == 422
        assert b"observation_out_of_range" in body


def test_a_dict_observation_is_refused_with_the_endpoint_to_use(
    server: Server,
) -> None:
    status, _, answer = post(server, "dict", b"", dtype="float32", shape="0")
    assert status == 415
    assert b"/v2/models/dict/infer" in answer
