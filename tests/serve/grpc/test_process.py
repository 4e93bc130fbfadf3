"""gRPC in the service's processes: keys, TLS, workers, stopping, and options."""

from __future__ import annotations

import signal
import socket
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.runtime.policy_files import write_policy
from tests.serve.grpc.raw_http2 import RawClient
from tests.serve.grpc.requests import MESSAGES, SERVICE, box_request, triton_inputs
from tests.serve.process.certificates import needs_openssl, write_certificate
from tests.serve.server import all_gone, running, wait_until
from trpo_deploy.errors import ServeError
from trpo_deploy.serve import serve

pytestmark = pytest.mark.slow

KEY = "a-key-of-the-grpc-tests"
BEARER = {"authorization": f"Bearer {KEY}"}
BOX = triton_inputs({"obs": np.ones((1, 4), np.float32)})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "cart" / "policy.onnx").parent


@needs_openssl
def test_keys_and_renewed_certificates_are_those_of_https(model: Path, tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path / "live", "first")
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    first = cert.read_bytes()
    with running(model, grpc_port=0, tls=(cert, key), workers=2, api_key_file=keys) as server:

        def connect(trusted: bytes) -> Any:
            credentials = grpc.ssl_channel_credentials(trusted)
            return triton.InferenceServerClient(server.grpc, ssl=True, creds=credentials)

        client = connect(first)
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.infer("cart", BOX, headers=BEARER).as_numpy("action").shape == (1, 2)
        assert client.infer("cart", BOX, headers={"x-api-key": KEY}).as_numpy("action").size == 2
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEY}):
            for call in (client.get_model_metadata, client.is_model_ready):
                with pytest.raises(InferenceServerException, match=r"UNAUTHENTICATED\] missing or"):
                    call("cart", headers=headers)
            with pytest.raises(InferenceServerException, match=r"UNAUTHENTICATED\] missing or"):
                client.infer("cart", BOX, headers=headers)
        refused: Queue[Any] = Queue()
        client.start_stream(lambda result, error: refused.put((result, error)))
        assert "missing or unknown key" in refused.get(timeout=30)[1].message()
        client.stop_stream()

        renewed, renewed_key = write_certificate(tmp_path / "renewed", "second")
        cert.write_bytes(renewed.read_bytes())
        key.write_bytes(renewed_key.read_bytes())

        def is_renewed() -> bool:
            new = connect(renewed.read_bytes())
            try:
                return bool(new.is_server_live(client_timeout=5))
            except InferenceServerException:
                return False
            finally:
                new.close()

        assert wait_until(lambda: all(is_renewed() for _ in range(4)))
        # The open connection stays.
        assert client.infer("cart", BOX, headers=BEARER).as_numpy("action").shape == (1, 2)
        client.close()


def test_connections_are_spread_and_a_killed_workers_are_answered_by_others(model: Path) -> None:
    with running(model, grpc_port=0, workers=2) as server, ExitStack() as stack:
        workers = server.workers()
        zygote = server.zygote()
        assert zygote is not None
        assert zygote.num_threads() == 1  # otherwise a fork would not be safe
        for _ in range(20):
            stack.enter_context(RawClient(server.grpc))

        def connections(worker: psutil.Process) -> int:
            port = int(server.grpc.rpartition(":")[2])
            open_ones = worker.net_connections("tcp")
            return sum(
                each.status == "ESTABLISHED" and each.laddr.port == port for each in open_ones
            )

        assert wait_until(lambda: sum(map(connections, workers)) == 20)
        assert abs(connections(workers[0]) - connections(workers[1])) <= 2
        client = stack.enter_context(triton.InferenceServerClient(server.grpc))
        for victim in workers:
            victim.kill()
            assert wait_until(partial(server.has_replaced, victim, 2), 60)
            assert wait_until(lambda: answers(client))


def answers(client: Any) -> bool:
    try:
        return bool(client.infer("cart", BOX).as_numpy("action").shape == (1, 2))
    except InferenceServerException as error:
        if "UNAVAILABLE" not in str(error.status()):
            raise
        return False


def test_sigterm_ends_streams_after_the_time_for_load_balancers(model: Path) -> None:
    with running(model, grpc_port=0, drain_seconds=2) as server:
        children = psutil.Process(server.process.pid).children(recursive=True)
        with grpc.insecure_channel(server.grpc) as channel:
            requests: Queue[Any] = Queue()
            stream = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")(iter(requests.get, None))
            data = box_request("cart").SerializeToString()
            requests.put(data)
            next(stream)
            ready = channel.unary_unary(f"{SERVICE}/ServerReady")
            health = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert health(b"") == b"\x08\x01"
            server.process.send_signal(signal.SIGTERM)
            assert wait_until(lambda: ready(b"") == b"", 2)
            assert health(b"") == b"\x08\x02"
            infer = channel.unary_unary(f"{SERVICE}/ModelInfer")
            assert MESSAGES.ModelInferResponse.FromString(infer(data)).model_name == "cart"
            requests.put(data)
            next(stream)
            started = time.monotonic()
            with pytest.raises(grpc.RpcError, match="the service is stopping") as ended:
                next(stream)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            assert time.monotonic() - started < 20
        output, _ = server.process.communicate(timeout=40)
        assert server.process.returncode == 0
        assert output == "stopped\n"
        assert all_gone(children)


def test_no_call_is_cancelled_when_the_service_stops(model: Path) -> None:
    """Clients that call without a pause are told to go elsewhere, and lose no call."""
    data = box_request("cart").SerializeToString()
    ended: Queue[Any] = Queue()

    def call_until_refused(address: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
        with grpc.insecure_channel(address, options) as channel:
            infer = channel.unary_unary(f"{SERVICE}/ModelInfer")
            calls = 0
            try:
                while True:
                    infer(data, timeout=60)
                    calls += 1
            except grpc.RpcError as error:
                ended.put((error.code(), error.details(), calls))

    with running(model, grpc_port=0) as server, ExitStack() as stack:
        for _ in range(8):
            thread = Thread(target=call_until_refused, args=(server.grpc,))
            thread.start()
            stack.callback(thread.join, 60)
        time.sleep(1)
        assert ended.empty()
        server.process.send_signal(signal.SIGTERM)
        for _ in range(8):
            code, details, calls = ended.get(timeout=60)
            # A new connection is refused, so another service may answer the call.
            assert code is grpc.StatusCode.UNAVAILABLE, (code, details)
            assert "failed to connect" in details
            assert calls > 0


def test_one_port_for_both_is_refused(model: Path) -> None:
    with pytest.raises(ServeError, match=r"--port and --grpc-port are both 3999; choose two"):
        serve([model], port=3999, grpc_port=3999)


def test_a_port_in_use_is_refused_by_its_option(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f"port {port}.*--grpc-port"):
            serve([model], port=0, grpc_port=port)


def test_a_folder_with_a_long_name_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(ServeError, match="at most 107 are possible; set TMPDIR"):
        serve([model], port=0, grpc_port=0)


def test_connections_beyond_the_file_descriptors_are_closed(model: Path) -> None:
    with running(model, grpc_port=0, max_files=200) as server, ExitStack() as stack:
        workers = server.workers()
        clients = [stack.enter_context(RawClient(server.grpc)) for _ in range(150)]
        for client in clients:
            client.receive(1)
        closed = [client for client in clients if client.closed]
        assert 0 < len(closed) < len(clients)
        assert server.predict([1, 2, 3, 4]).status_code == 200
        for client in clients:
            client.socket.close()
        with triton.InferenceServerClient(server.grpc) as good:
            assert wait_until(lambda: answers(good))
        assert server.workers() == workers
        assert server.stop() == ["stopped"]
