"""Clients that misbehave: they lose their connection, and the others get their answers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
import psutil
import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.grpc.raw_http2 import (
    DATA,
    END_STREAM,
    RST_STREAM,
    RawClient,
    call_headers,
    frame,
    message,
)
from tests.serve.grpc.requests import MESSAGES, SERVICE, box_request
from tests.serve.server import Server, running, wait_until

pytestmark = pytest.mark.slow

MIB = 1 << 20
SLOW_S = 2
MAX_CONCURRENT = 8
REQUEST = message(box_request("cart").SerializeToString())


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits."""
    model = write_policy(tmp_path_factory.mktemp("hostile") / "cart" / "policy.onnx").parent
    options = {
        "max_body_bytes": MIB,
        "max_bytes_in_flight": 8 * MIB,
        "max_concurrent": MAX_CONCURRENT,
        "slow_client_seconds": SLOW_S,
    }
    with running(model, grpc_port=0, **options) as server:
        yield server
        assert server.stop() == ["stopped"]  # what a client does is no error of the service


@pytest.fixture(autouse=True)
def good(target: Server) -> Iterator[Any]:
    """A call of a good client. After each test it is answered by the same worker as before."""
    (worker,) = target.workers()
    with grpc.insecure_channel(target.grpc) as channel:
        infer = channel.unary_unary(f"{SERVICE}/ModelInfer")

        def call() -> Any:
            answer = infer(box_request("cart").SerializeToString(), timeout=60)
            return MESSAGES.ModelInferResponse.FromString(answer).outputs[0].shape

        def is_answered() -> bool:
            """Not at once: the worker first sees that the test's clients are gone."""
            try:
                return bool(call() == [1, 2])
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                return False

        assert call() == [1, 2]
        yield call
        assert wait_until(is_answered)
    assert target.workers() == [worker]
    assert wait_until(lambda: target.metric("trpo_deploy_open_grpc_streams") == 0)


def errors(server: Server, code: str) -> float:
    return server.metric(f'trpo_deploy_errors_total{{code="{code}",model=""}}')


def test_unfinished_messages_are_bounded_by_their_bytes(target: Server, good: Any) -> None:
    (worker,) = target.workers()
    overloaded = errors(target, "overloaded")
    size = MIB - 100
    before, peak, sent = worker.memory_info().rss, 0, 0
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(target.grpc)) for _ in range(6)]
        streams = range(1, 2 * MAX_CONCURRENT, 2)
        rest = {
            (client, stream): message(bytes(size))[:-1] for client in clients for stream in streams
        }
        for client, stream in rest:
            client.send(call_headers(stream))
        deadline = time.monotonic() + SLOW_S - 0.5
        while time.monotonic() < deadline:
            for (client, stream), data in rest.items():
                count = client.send_data(stream, data)
                rest[client, stream] = data[count:]
                sent += count
            for client in clients:
                client.receive(0.001)
            peak = max(peak, worker.memory_info().rss)
        assert good() == [1, 2]
        assert any(client.closed for client in clients)
    assert errors(target, "overloaded") > overloaded
    assert sent > 8 * MIB, "not enough was sent to find the limit"
    # The bytes in flight, and what the core, the system and the allocator hold beside them.
    assert peak - before < 8 * MIB + 40 * MIB


def test_a_message_that_does_not_arrive_costs_its_client_the_connection(
    target: Server, good: Any
) -> None:
    with RawClient(target.grpc) as part, RawClient(target.grpc) as nothing:
        for client in (part, nothing):
            client.send(call_headers(1))
        part.send(frame(DATA, 0, 1, REQUEST[:9]))
        started = time.monotonic()
        assert good() == [1, 2]
        assert part.receive_until_closed()
        assert nothing.receive_until_closed()
        assert time.monotonic() - started > SLOW_S / 2


def test_calls_without_requests_make_room_for_others(target: Server, good: Any) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(target.grpc)) for _ in range(4)]
        for client in clients:
            for stream in range(1, 4 * MAX_CONCURRENT, 2):  # all that a connection may have
                client.send(call_headers(stream))
        with pytest.raises(grpc.RpcError, match="32 calls wait for their clients") as full:
            assert wait_until(lambda: good() is None, 1)
        assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        time.sleep(1)
        assert good() == [1, 2]


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer"])
def test_a_client_that_takes_no_reply_loses_its_connection(target: Server, method: str) -> None:
    with RawClient(target.grpc, window=0) as client:
        client.send(call_headers(1, method))
        client.send(frame(DATA, 0, 1, REQUEST))
        started = time.monotonic()
        assert client.receive_until_closed()
        assert time.monotonic() - started > SLOW_S / 2
        assert not client.replies


def test_a_stream_may_wait_for_longer_than_a_request(target: Server) -> None:
    with RawClient(target.grpc) as client:
        client.send(call_headers(1, "ModelStreamInfer"))
        for count in (1, 2):
            client.send(frame(DATA, 0, 1, REQUEST))
            deadline = time.monotonic() + SLOW_S + 1.5
            while time.monotonic() < deadline:
                client.receive(0.1)
            assert not client.closed
            reply = MESSAGES.ModelStreamInferResponse.FromString
            size = 5 + int.from_bytes(client.replies[1][1:5], "big")
            assert len(client.replies[1]) == count * size
            assert not reply(client.replies[1][5:size]).error_message


def test_a_half_closed_call_is_refused_at_once(target: Server) -> None:
    with grpc.insecure_channel(target.grpc) as channel:
        call = channel.stream_unary(f"{SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError, match="the call has no request") as refused:
            call(iter(()), timeout=60)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_that_is_too_large_is_refused_and_counted(target: Server) -> None:
    before = errors(target, "body_too_large")
    with grpc.insecure_channel(target.grpc) as channel:
        call = channel.unary_unary(f"{SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(bytes(MIB + 1), timeout=60)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        stream = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")
        with pytest.raises(grpc.RpcError):
            list(stream(iter([bytes(MIB + 1)]), timeout=60))
        with pytest.raises(grpc.RpcError, match="gzip") as compressed:
            call(bytes(100), timeout=60, compression=grpc.Compression.Gzip)
        assert compressed.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert wait_until(lambda: errors(target, "body_too_large") == before + 2)


def test_streams_beyond_the_limit_are_refused(target: Server) -> None:
    with grpc.insecure_channel(target.grpc) as channel:
        open_stream = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")
        queues = [Queue[Any]() for _ in range(MAX_CONCURRENT + 1)]
        calls = [open_stream(iter(queue.get, None)) for queue in queues[:-1]]
        for queue, call in zip(queues, calls, strict=False):
            queue.put(box_request("cart").SerializeToString())
            next(call)
        with pytest.raises(grpc.RpcError, match=f"{MAX_CONCURRENT} gRPC streams are open") as full:
            next(open_stream(iter(queues[-1].get, None)))
        assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("grpc-retry-pushback-ms", "1000") in full.value.trailing_metadata()
        for queue in queues:
            queue.put(None)


@pytest.mark.parametrize(
    "data",
    [
        frame(DATA, 0x8, 1, b"\x01" + REQUEST[:20] + b"\0"),  # padded
        frame(DATA, 0, 99, b"xxx"),  # of no stream
        frame(0xEE, 0xFF, 1, b"x" * 100) + frame(DATA, END_STREAM, 0, b"xxx"),
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" * 100,
        b"\xff" * 100_000,
    ],
)
def test_frames_that_no_client_sends_do_no_harm(target: Server, data: bytes) -> None:
    with RawClient(target.grpc) as client:
        client.send(call_headers(1))
        client.send(data)
        assert client.receive_until_closed()


def test_calls_that_are_opened_and_cancelled_at_once_do_no_harm(target: Server, good: Any) -> None:
    with RawClient(target.grpc) as client:
        for stream in range(1, 4001, 2):
            client.send(call_headers(stream) + frame(RST_STREAM, 0, stream, bytes(4)))
        assert good() == [1, 2]


def test_clients_that_are_killed_are_forgotten(target: Server, good: Any) -> None:
    code = (
        "import sys, time\nfrom tests.serve.grpc.raw_http2 import RawClient, call_headers\n"
        f"clients = [RawClient({target.grpc!r}) for _ in range(6)]\n"
        "for client in clients:\n    client.send(call_headers(1, 'ModelStreamInfer'))\n"
        "print('open', flush=True)\ntime.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as client:
        assert client.stdout is not None
        client.stdout.readline()
        assert wait_until(lambda: target.metric("trpo_deploy_open_grpc_streams") == 6)
        psutil.Process(client.pid).kill()
    assert wait_until(lambda: target.metric("trpo_deploy_open_grpc_streams") == 0)
    assert good() == [1, 2]
