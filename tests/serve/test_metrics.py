"""Published tallies equal what the Prometheus client would have counted one by one."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from trpo_deploy.serve.metrics import BUCKETS, count_request, publish

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
