"""Streams of requests: replies in order, and an error for each request that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.serve.grpc.requests import MESSAGES, SERVICE, batch_of, box_request, triton_inputs
from tests.serve.server import Server, wait_until
from trpo_deploy.runtime import OnnxPolicy


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    client = triton.InferenceServerClient(server.grpc)
    yield client
    client.close()


def test_the_client_gets_each_reply_or_error_in_order(client: Any, models: Path) -> None:
    policy = OnnxPolicy(models / "box" / "policy.onnx")
    arrays = batch_of(policy, 40)
    want = policy.run(["action"], arrays)[0]
    received: Queue[tuple[Any, Any]] = Queue()
    client.start_stream(lambda result, error: received.put((result, error)))
    for row in range(40):
        inputs = triton_inputs({"obs": arrays["obs"][row : row + 1]})
        model = "nobody" if row % 10 == 9 else "box"
        client.async_stream_infer(model, inputs, request_id=str(row))
    for row in range(40):
        result, error = received.get(timeout=30)
        if row % 10 == 9:
            assert error.message().startswith("no model 'nobody'; served are [")
        else:
            assert error is None
            assert result.get_response().id == str(row)
            np.testing.assert_array_equal(result.as_numpy("action"), want[row : row + 1])
    client.stop_stream()


def open_stream(channel: Any, requests: Iterator[Any]) -> Any:
    call = channel.stream_stream(
        f"{SERVICE}/ModelStreamInfer",
        request_serializer=lambda r: r if isinstance(r, bytes) else r.SerializeToString(),
        response_deserializer=MESSAGES.ModelStreamInferResponse.FromString,
    )
    return call(requests)


def test_a_refused_request_is_named_by_its_id(channel: Any) -> None:
    bad = box_request(datatype="FP64")
    bad.id = "seven"
    replies = list(open_stream(channel, iter([bad, b"\xff", box_request()])))
    assert [bool(reply.error_message) for reply in replies] == [True, True, False]
    assert replies[0].infer_response.id == "seven"
    assert "takes 32 bytes" in replies[0].error_message
    assert "not a request of ModelStreamInfer" in replies[1].error_message
    assert replies[2].infer_response.outputs[0].name == "action"


def test_open_streams_are_counted(server: Server, channel: Any) -> None:
    def opened() -> float:
        return server.metric("trpo_deploy_open_grpc_streams")

    before = opened()
    requests: Queue[Any] = Queue()
    stream = open_stream(channel, iter(requests.get, None))
    requests.put(box_request())
    assert not next(stream).error_message
    assert opened() == before + 1
    requests.put(None)
    with pytest.raises(StopIteration):
        next(stream)
    cancelled = open_stream(channel, iter(Queue().get, None))
    assert wait_until(lambda: opened() == before + 1)
    cancelled.cancel()
    assert wait_until(lambda: opened() == before)
    with pytest.raises(grpc.RpcError):
        next(cancelled)
