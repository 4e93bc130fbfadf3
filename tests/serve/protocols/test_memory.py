"""With little memory left, every request is answered, and by the same worker."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.runtime.policy_files import IMAGE, write_policy
from tests.serve.server import Server, running

if sys.platform != "linux":
    pytest.skip("limits another process's memory", allow_module_level=True)

import resource

SPARE_BYTES = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose worker can take 64 MiB more than it has."""
    folder = tmp_path_factory.mktemp("small")
    write_policy(folder / "box" / "policy.onnx")
    write_policy(folder / "image" / "policy.onnx", IMAGE)
    with running(folder) as server:
        for _ in range(20):  # threads and caches
            assert server.predict([1, 2, 3, 4], model="box").status_code == 200
        assert server.predict([[0] * 300_000], model="box").status_code == 422
        (worker,) = server.workers()
        limit = worker.memory_info().vms + SPARE_BYTES
        resource.prlimit(worker.pid, resource.RLIMIT_AS, (limit, limit))
        yield server
        assert server.workers() == [worker]
        assert server.predict([1, 2, 3, 4], model="box").status_code == 200


# As numpy's arrays of text: 380 MB and 18.6 GB.
TEXTS = {
    "34 KiB": [0] * 10_000 + ["x" * 9_500],
    "244 KiB": [0] * 62_500 + ["x" * 74_000],
    "rows": [[0, 0, 0, "x" * 1_000]] + [[0, 0, 0, 0]] * 20_000,
}
OTHERS: dict[str, Any] = {
    "empty lists": [[]] * 80_000,
    "objects": [{}] * 80_000,
    "nulls": [None] * 50_000,
    "numbers": [0.5] * 60_000,
}


@pytest.mark.parametrize("name", [*TEXTS, *OTHERS])
def test_lists_of_anything_are_refused(small: Server, name: str) -> None:
    value = {**TEXTS, **OTHERS}[name]
    answers: list[httpx.Response] = [
        small.predict(value, model="box"),
        small.client.post("/models/image/predict", json={"observation": value}),
    ]
    tensor = {"name": "obs", "datatype": "FP32", "shape": [len(value)], "data": value}
    answers.append(small.client.post("/v2/models/box/infer", json={"inputs": [tensor]}))
    for answer in answers:
        assert answer.status_code == 422, answer.text
    with connect(small.websocket_url("box")) as socket:
        socket.send(json.dumps({"observation": value}))
        code = json.loads(socket.recv())["error"]["code"]
        assert code.startswith("observation_")


def test_a_request_that_takes_too_much_memory_gets_413(small: Server) -> None:
    content = b'{"observation": [' + b"0.5," * 2_000_000 + b'0], "model": "box"}'
    answer = small.client.post("/predict", content=content)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "out_of_memory"
    with connect(small.websocket_url("box")) as socket:
        socket.send(content.decode())
        assert json.loads(socket.recv())["error"]["code"] == "out_of_memory"
