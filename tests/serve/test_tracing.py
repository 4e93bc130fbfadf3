"""``--tracing`` sends a span of each request to a collector, and harms nobody without one."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import grpc
import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.collector import Collector, attributes, collecting
from tests.serve.server import Server, running
from trpo_deploy.errors import ServeError
from trpo_deploy.serve import serve

LIVE = "/inference.GRPCInferenceService/ServerLive"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "cart" / "policy.onnx").parent


def stop(server: Server) -> str:
    """End a server; returns what it wrote after it was ready."""
    server.process.send_signal(signal.SIGTERM)
    output, _ = server.process.communicate(timeout=60)
    assert server.process.returncode == 0
    return output


def send_all_kinds(server: Server) -> None:
    body = {"observation": [1, 2, 3, 4]}
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    server.client.post("/predict", json=body, headers=headers)
    server.client.post("/models/cart/predict", json=body)
    server.client.post("/models/a%2Fb?secret/predict", json=body)
    server.client.post("/models/private-name/predict", json=body)
    server.client.post("/predict", json={"observation": [1]})
    server.client.get("/private-path")


def test_a_collector_sees_method_route_model_and_status(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with running(model, tracing=True, grpc_port=0) as server:
            send_all_kinds(server)
            with grpc.insecure_channel(server.grpc) as channel:
                trace = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")
                channel.unary_unary(LIVE)(b"", metadata=[trace])
            # The next batch is sent after five seconds, or at the end.
            assert stop(server) == "stopped\n"
        assert set(collector.paths) == {"/v1/traces"}
        assert collector.services == {"trpo-deploy"}
        keys = (
            "http.request.method",
            "http.route",
            "trpo_deploy.model",
            "http.response.status_code",
        )
        seen = [tuple(attributes(span)[key] for key in keys) for span in collector.spans]
        assert sorted(seen) == [
            ("GET", "unknown", "", 404),
            ("POST", LIVE, "", 200),
            ("POST", "/models/NAME/predict", "", 404),
            ("POST", "/models/NAME/predict", "cart", 200),
            ("POST", "/predict", "cart", 200),
            ("POST", "/predict", "cart", 422),
            ("POST", "unknown", "", 404),
        ]
        assert not any("private" in str(span) or "secret" in str(span) for span in collector.spans)
        joined, call = [span for span in collector.spans if span.trace_id.hex() == TRACE]
        assert (joined.name, call.name) == ("POST /predict", f"POST {LIVE}")
        assert 0 < joined.end_time_unix_nano - joined.start_time_unix_nano < 60e9


def test_opentelemetrys_variables_name_the_service_and_sample(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/elsewhere")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "robots")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
        with running(model, tracing=True) as server:
            send_all_kinds(server)
            stop(server)
        assert (collector.services, collector.paths) == ({"robots"}, ["/elsewhere"])
        assert [span.trace_id.hex() for span in collector.spans] == [TRACE]


def test_nothing_is_sent_without_the_flag(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        with running(model) as server:
            send_all_kinds(server)
            stop(server)
        assert collector == Collector(collector.url)


@pytest.mark.parametrize("answers", [False, True], ids=["refused", "silent"])
def test_a_dead_collector_costs_one_log_line(
    model: Path, monkeypatch: pytest.MonkeyPatch, *, answers: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if not answers:
            listener.close()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "32")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32")
        with running(model, tracing=True) as server:
            times = []
            end = time.monotonic() + 3  # several failures: the limit of an export is a second
            while time.monotonic() < end:
                start = time.perf_counter()
                assert server.predict([1, 2, 3, 4]).status_code == 200
                times.append(time.perf_counter() - start)
                time.sleep(0.005)
            start = time.monotonic()
            output = stop(server)
            # A second to drain, and three for the last spans.
            assert time.monotonic() - start < 20
    # Far below the exporter's timeout of a second, far above a loaded machine's scheduling.
    assert sorted(times)[len(times) // 2] < 0.1
    warning, *rest = output.splitlines()
    assert f"traces cannot be sent to {url}" in warning
    assert rest == ["stopped"]


def test_another_protocol_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ServeError, match="OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"):
        serve([model], tracing=True)
