"""Who reaches the pods: the Service, the NetworkPolicy, and Prometheus."""

from __future__ import annotations

from trpo_deploy.serve.bundles.container import (
    GRPC_PORT,
    GRPC_PORT_NAME,
    PORT,
    PORT_NAME,
    Manifest,
)
from trpo_deploy.serve.bundles.kubernetes.workload import labels, metadata
from trpo_deploy.serve.metrics import METRICS_PATH

POLICY_COMMENT = """\
Who may send requests: all pods of this namespace, and those of the namespace "monitoring", where
Prometheus often is. Add the namespace of your ingress controller or gateway. The service opens no
connections itself, so none are allowed; --tracing needs one to the collector."""
MONITOR_COMMENT = """\
Many installations of the operator take only monitors with a label of their own, such as
"release: NAME" of the chart kube-prometheus-stack. Add it to the labels."""
PODS_COMMENT = """\
The addresses of all pods, for gRPC clients that spread their calls over them (round_robin)."""


def service(name: str) -> Manifest:
    """The Service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name),
        "spec": {
            "selector": labels(name),
            "ports": [
                {"name": PORT_NAME, "port": PORT, "targetPort": PORT_NAME},
                _grpc_port(),
            ],
        },
    }


def pods_service(name: str) -> Manifest:
    """The headless Service: its name resolves to all pods that are ready.

    A gRPC client keeps its connection, and the Service above balances connections only. With the
    addresses of the pods a client can send each call to the next pod. It has no port of HTTP, and
    so Prometheus does not scrape the pods twice.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-pods", "labels": labels(name)},
        "spec": {"clusterIP": "None", "selector": labels(name), "ports": [_grpc_port()]},
    }


def _grpc_port() -> Manifest:
    return {
        "name": GRPC_PORT_NAME,
        "port": GRPC_PORT,
        "targetPort": GRPC_PORT_NAME,
        # For meshes and gateways: the name of gRPC without TLS.
        "appProtocol": "kubernetes.io/h2c",
    }


def network_policy(name: str) -> Manifest:
    """The NetworkPolicy."""
    prometheus = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(name),
        "spec": {
            "podSelector": {"matchLabels": labels(name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [{"podSelector": {}}, {"namespaceSelector": prometheus}],
                    "ports": [
                        {"port": each, "protocol": "TCP"} for each in (PORT_NAME, GRPC_PORT_NAME)
                    ],
                }
            ],
        },
    }


def service_monitor(name: str) -> Manifest:
    """The ServiceMonitor of the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata(name),
        "spec": {
            "selector": {"matchLabels": labels(name)},
            "endpoints": [{"port": PORT_NAME, "path": METRICS_PATH, "interval": "15s"}],
        },
    }
