"""The health protocol: changes are told to clients, and gRPC's own client balances by them."""

from __future__ import annotations

import json
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.runtime.policy_files import write_policy
from tests.serve.grpc.requests import SERVICE, triton_inputs
from tests.serve.server import Server, running, wait_until

WATCH = "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"


def counted(server: Server, endpoint: str) -> float:
    labels = f'endpoint="{endpoint}",model="",status="200"'
    return server.metric(f"trpo_deploy_requests_total{{{labels}}}")


def test_an_unknown_service_is_a_status_and_the_call_stays(server: Server, channel: Any) -> None:
    before = counted(server, WATCH)
    for service, status in ((b"", SERVING), (b"\n\x01x", SERVICE_UNKNOWN)):
        watch = channel.unary_stream(WATCH)(service)
        assert next(watch) == status
        assert watch.is_active()
        watch.cancel()
    assert counted(server, WATCH) == before + 2
    with pytest.raises(grpc.RpcError, match="the call has no request"):
        next(channel.stream_stream(WATCH)(iter(())))
    with pytest.raises(grpc.RpcError, match="not a request of Watch"):
        next(channel.unary_stream(WATCH)(b"\xff"))


@pytest.mark.slow
def test_watches_are_bounded_and_need_no_key(tmp_path: Path) -> None:
    model = write_policy(tmp_path / "cart" / "policy.onnx").parent
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-the-health-tests")
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    with (
        running(model, grpc_port=0, max_concurrent=1, api_key_file=keys) as server,
        ExitStack() as stack,
    ):

        def watch() -> Any:
            channel = stack.enter_context(grpc.insecure_channel(server.grpc, own_connection))
            return channel.unary_stream(WATCH)(b"", timeout=60)

        watches = [watch() for _ in range(4)]
        assert [next(each) for each in watches] == [SERVING] * 4
        with pytest.raises(grpc.RpcError, match="4 clients watch the health") as refused:
            next(watch())
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        watches[0].cancel()

        def is_told() -> bool:
            try:
                return bool(next(watch()) == SERVING)
            except grpc.RpcError:
                return False

        assert wait_until(is_told)


@pytest.mark.slow
def test_clients_leave_a_service_that_will_stop_without_a_failed_call(tmp_path: Path) -> None:
    """Two services are two pods: Triton's client has the addresses of both, as from DNS."""
    model = write_policy(tmp_path / "cart" / "policy.onnx").parent
    inputs = triton_inputs({"obs": np.ones((1, 4), np.float32)})
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": ""},
    }
    with ExitStack() as stack:
        pods = [stack.enter_context(running(model, grpc_port=0, drain_seconds=4)) for _ in range(2)]
        client = stack.enter_context(
            triton.InferenceServerClient(
                f"ipv4:{pods[0].grpc},{pods[1].grpc}",
                channel_args=[("grpc.service_config", json.dumps(config))],
            )
        )

        def answered_by() -> Counter[int]:
            """Send calls, and count who has answered them."""
            labels = f'endpoint="{SERVICE}/ModelInfer",model="cart",status="200"'
            name = f"trpo_deploy_requests_total{{{labels}}}"
            before = [pod.metric(name) for pod in pods]
            for _ in range(20):
                client.infer("cart", inputs)
            return Counter({i: int(pod.metric(name) - before[i]) for i, pod in enumerate(pods)})

        assert wait_until(lambda: min(answered_by().values()) > 0)
        watch = stack.enter_context(grpc.insecure_channel(pods[0].grpc)).unary_stream(WATCH)(b"")
        assert next(watch) == SERVING
        pods[0].process.send_signal(signal.SIGTERM)
        assert next(watch) == NOT_SERVING
        assert wait_until(lambda: answered_by()[0] == 0, 3)
        with pytest.raises(grpc.RpcError, match="the service is stopping"):
            next(watch)
        for _ in range(20):  # the first service has ended
            client.infer("cart", inputs)
