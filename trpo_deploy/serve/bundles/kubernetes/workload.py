"""What runs: the Deployment, how many pods it has, and how many may be away at a time."""

from __future__ import annotations

from trpo_deploy.serve.bundles.container import Container, Manifest, temporary_volume
from trpo_deploy.serve.metrics import IN_FLIGHT

REPLICAS = 2, 10
"""Smallest and largest number of pods."""
IN_FLIGHT_TARGET = 4
"""Requests in flight per pod. A worker with the load r has r / (1 - r) requests in flight on
average (M/M/1 queue), so 4 is a load of 80 %."""
(_METRIC,) = IN_FLIGHT.describe()
REPLICAS_COMMENT = """\
The metric comes from the pods themselves, over an adapter in the cluster such as
prometheus-adapter. Without one this only keeps minReplicas pods. Change both limits to what your
robots need; the documentation's page Scale calculates it."""


def labels(name: str) -> Manifest:
    """The labels of all objects, and by which they find the pods."""
    return {"app.kubernetes.io/name": name}


def metadata(name: str) -> Manifest:
    """The metadata of an object that has the bundle's name."""
    return {"name": name, "labels": labels(name)}


def deployment(name: str, container: Container, models: Manifest | None) -> Manifest:
    """The Deployment.

    Args:
        name: Name of the bundle.
        container: The service's container.
        models: The volume with the models; None if they are in the image.
    """
    volumes = [temporary_volume(), *([] if models is None else [models])]
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels(name)},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name),
        "spec": {
            "selector": {"matchLabels": labels(name)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {
                "metadata": {"labels": labels(name)},
                "spec": {
                    **container.pod(),
                    "topologySpreadConstraints": [spread],
                    "containers": [container.manifest("service")],
                    "volumes": volumes,
                },
            },
        },
    }


def autoscaler(name: str) -> Manifest:
    """The HorizontalPodAutoscaler, on the requests that a pod has in flight."""
    smallest, largest = REPLICAS
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(name),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": smallest,
            "maxReplicas": largest,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": _METRIC.name},
                        "target": {"type": "AverageValue", "averageValue": str(IN_FLIGHT_TARGET)},
                    },
                }
            ],
        },
    }


def disruption_budget(name: str) -> Manifest:
    """The PodDisruptionBudget: nodes are drained one pod at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(name),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels(name)}},
    }
