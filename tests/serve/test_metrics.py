"""Metrics: complete, told apart by model, and bounded."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Histogram
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.runtime.policy_files import write_policy
from tests.serve.server import Server, running, wait_until
from trpo_deploy.serve import metrics
from trpo_deploy.serve.metrics import (
    ALL_MODELS,
    BUCKETS,
    MAX_MODELS,
    count_request,
    publish,
    use_models,
)

SECONDS = [0.0, 5e-5, 6e-5, 0.001, 0.0011, 5.0, 7.0]


def test_each_request_is_published_once_and_in_its_bucket() -> None:
    registry = CollectorRegistry()
    want = Histogram("want", "want", buckets=BUCKETS, registry=registry)
    for seconds in SECONDS:
        want.observe(seconds)
        count_request("/test", "cart", 200, seconds)
    labels = {"endpoint": "/test", "model": "cart"}
    assert not REGISTRY.get_sample_value("trpo_deploy_request_seconds_count", labels)
    publish()
    publish()
    (metric,) = registry.collect()
    samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
    assert len(samples) == len(BUCKETS) + 3  # +Inf, count and sum
    for sample in samples:
        name = sample.name.replace("want", "trpo_deploy_request_seconds")
        value = REGISTRY.get_sample_value(name, {**labels, **sample.labels})
        assert value == sample.value, sample
    requests = {**labels, "status": "200"}
    assert REGISTRY.get_sample_value("trpo_deploy_requests_total", requests) == len(SECONDS)


@pytest.mark.parametrize(("models", "label"), [(MAX_MODELS, "cart"), (MAX_MODELS + 1, ALL_MODELS)])
def test_many_models_share_a_histogram(models: int, label: str) -> None:
    use_models(lambda: models)
    try:
        count_request(f"/many/{models}", "cart", 200, 0.1)
        publish()
    finally:
        use_models(int)
    labels = {"endpoint": f"/many/{models}", "model": label}
    assert REGISTRY.get_sample_value("trpo_deploy_request_seconds_count", labels) == 1
    labels |= {"model": "cart", "status": "200"}
    assert REGISTRY.get_sample_value("trpo_deploy_requests_total", labels) == 1


def test_requests_in_flight_are_a_mean_over_the_time_between_two_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def published() -> float | None:
        publish()
        return REGISTRY.get_sample_value("trpo_deploy_requests_in_flight")

    now = time.perf_counter() + 10
    monkeypatch.setattr(metrics, "perf_counter", lambda: now)
    published()
    now += 2
    assert published() == 0
    for _ in range(6):  # six requests of half a second in two seconds
        count_request("/mean", "cart", 200, 0.5)
    now += 0.1
    assert published() == 0  # a scrape between two rounds
    now += 1.9
    assert published() == pytest.approx(1.5)
    now += 1
    assert published() == 0


def samples(server: Server) -> dict[str, float]:
    """The samples of ``/metrics`` by name and labels."""
    lines = server.client.get("/metrics").text.splitlines()
    rows = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in rows}


BAD = {"observation": [1, 2, 3, None]}
INFER = {"inputs": [{"name": "obs", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3]}]}


@pytest.mark.parametrize(
    ("path", "endpoint", "body", "code", "status"),
    [
        ("/predict", "/predict", {**BAD, "model": "box"}, "observation_dtype", 422),
        ("/models/box/predict", "/models/NAME/predict", BAD, "observation_dtype", 422),
        ("/models/box/predict", "/models/NAME/predict", {}, "missing_key", 422),
        ("/v2/models/box/infer", "/v2/models/NAME/infer", INFER, "bad_tensor", 422),
        ("/predict", "/predict", {**BAD, "model": "nobody"}, "unknown_model", 404),
        ("/models/nobody/predict", "/models/NAME/predict", BAD, "unknown_model", 404),
    ],
)
def test_a_refusal_is_counted_with_the_model_if_it_is_a_served_one(
    server: Server, path: str, endpoint: str, body: object, code: str, status: int
) -> None:
    model = "" if code == "unknown_model" else "box"
    counters = [
        f'trpo_deploy_errors_total{{code="{code}",model="{model}"}}',
        f'trpo_deploy_requests_total{{endpoint="{endpoint}",model="{model}",status="{status}"}}',
    ]
    before = samples(server)
    assert server.client.post(path, json=body).status_code == status
    after = samples(server)
    assert [after[each] - before.get(each, 0) for each in counters] == [1, 1]
    assert "nobody" not in "".join(after)


def test_refused_frames_and_handshakes_are_counted_with_the_model(server: Server) -> None:
    refused = 'trpo_deploy_requests_total{endpoint="/ws/NAME",model="box",status="422"}'
    before = samples(server).get(refused, 0)
    with pytest.raises(InvalidStatus):
        connect(server.websocket_url("box") + "?dtype=text")
    with connect(server.websocket_url("box")) as socket:
        socket.send("{}")
        socket.recv()
    assert samples(server)[refused] == before + 2


def test_the_metrics_of_many_models_are_small(tmp_path: Path) -> None:
    first = write_policy(tmp_path / "m0" / "policy.onnx")
    names = [f"m{number}" for number in range(MAX_MODELS + 20)]
    for name in names[1:]:
        shutil.copytree(first.parent, tmp_path / name)
    with running(tmp_path) as server:
        for name in names:
            assert server.client.get(f"/models/{name}").status_code == 200
            assert server.predict([1, 2, 3, 4], model=name).status_code == 200
            assert server.predict([None], model=name).status_code == 422
        answer = server.client.get("/metrics")
        # 4 series for each model, at most 100 bytes each; the histograms would take 18 more.
        assert len(answer.content) < 100_000


def test_requests_in_flight_follow_the_load(server: Server) -> None:
    """The gauge is what an autoscaler reads: it must not be zero while clients wait."""
    body = json.dumps({"observation": [[1, 2, 3, 4]] * 1000, "model": "box"})
    headers = {"content-type": "application/json"}
    deadline, read = time.monotonic() + 30, [0.0]
    while max(read) < 0.1 and time.monotonic() < deadline:
        for _ in range(50):  # the time between requests is that of this client
            answer = server.client.post("/predict", content=body, headers=headers)
            assert answer.status_code == 200
        read.append(server.metric("trpo_deploy_requests_in_flight"))
    # One client that waits for each answer has at most one request in flight.
    assert 0.1 <= max(read) <= 1
    assert wait_until(lambda: server.metric("trpo_deploy_requests_in_flight") < 0.1)
