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
REPLICAS_COMMENT = """\
Change minReplicas and maxReplicas to what your robots need; the documentation's page Scale
calculates it."""
METRICS_COMMENT = f"""\
The metric that asks for more pods decides. A pod asks for one core: {LOAD:.0%} of it is the planned
load of its worker. About {_IN_FLIGHT:g} requests are then in flight, and more if something
else slows the worker, such as a busy node.
The second metric needs an adapter, such as prometheus-adapter. Without one, remove it: otherwise
pods are added, but never removed."""


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
    """The HorizontalPodAutoscaler, on processor time and on the requests in flight of a pod."""
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
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {
                            "type": "Utilization",
                            "averageUtilization": round(100 * LOAD),
                        },
                    },
                },
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": _METRIC.name},
                        "target": {
                            "type": "AverageValue",
                            "averageValue": f"{1000 * _IN_FLIGHT:.0f}m",
                        },
                    },
                },
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
