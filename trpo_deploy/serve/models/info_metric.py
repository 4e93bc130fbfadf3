"""``trpo_deploy_model_info``: version, content and status of each model, for ``/metrics``."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from trpo_deploy.serve.models.entry import ModelEntry


class _Info:
    def __init__(self, entries: Mapping[str, ModelEntry]) -> None:
        self._entries = entries

    def collect(self) -> list[GaugeMetricFamily]:
        """The metric, as Prometheus' client asks for it."""
        labels = ["model", "version", "sha256", "status"]
        info = GaugeMetricFamily("trpo_deploy_model_info", "1 for each model", labels=labels)
        for name, entry in self._entries.items():
            latest = entry.latest
            version, content = (latest.version, latest.policy.sha256[:12]) if latest else ("", "")
            info.add_metric([name, version, content, entry.status], 1)
        return [info]


def describe_models(entries: Mapping[str, ModelEntry]) -> str:
    """The metric in Prometheus' text format.

    It is not kept in the files that the workers share: all workers serve the same models, and a
    file would keep the labels of every version that there ever was.
    """
    registry = CollectorRegistry()
    registry.register(_Info(entries))
    return generate_latest(registry).decode()
