"""What runs: the Deployment, how many pods it has, and how many may be away at a time."""

from __future__ import annotations

from trpo_deploy.serve.bundles.container import Container, Manifest, temporary_volume
from trpo_deploy.serve.metrics import IN_FLIGHT

REPLICAS = 2, 10
"""Smallest and largest number of pods."""
LOAD = 0.6
"""Planned load of a worker: requests seldom wait for others, and one of three may fail."""
_IN_FLIGHT = LOAD / (1 - LOAD)
"""Requests in flight at that load, on average, in an M/M/1 queue."""
(_METRIC,) = IN_FLIGHT.describe()
REPLICAS_COMMENT = f"""\
Change minReplicas and maxReplicas to what your robots need; the documentation's page Scale
calculates it. {_IN_FLIGHT:g} requests in flight are a load of {LOAD:.0%}.
The metric needs an adapter in the cluster, such as prometheus-adapter. Without one, minReplicas
pods run."""


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
                        "target": {
                            "type": "AverageValue",
                            "averageValue": f"{1000 * _IN_FLIGHT:.0f}m",
                        },
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
