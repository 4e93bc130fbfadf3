"""The container of the service, as pods of Kubernetes and of KServe describe it.

Every number that the service has is taken from its code, so the two cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from trpo_deploy.errors import ServeError
from trpo_deploy.serve.bundles.bento import DOCKERFILE
from trpo_deploy.serve.http import health
from trpo_deploy.serve.process.supervisor import START_S, STOP_S
from trpo_deploy.serve.settings import ENV_PREFIX

Manifest: TypeAlias = dict[str, Any]

PORT, PORT_NAME = 3000, "http"
GRPC_PORT, GRPC_PORT_NAME = 3001, "grpc"
WORKERS = 1
"""Per pod: replicas are what a cluster scales, and a pod of one worker is the smallest step."""
DRAIN_S = 10
"""Longer than a cluster needs to send new connections elsewhere, s."""
TERMINATION_S = DRAIN_S + STOP_S + 5
"""When the service has ended its own workers, the cluster may kill what is left, s."""
MODELS = "/models"
"""Where a volume with models is mounted."""
TEMPORARY = "/tmp"  # noqa: S108 - the container's own
"""The only folder that the service writes to, beside ``/dev/shm``."""
_PROBE_S = 5

RESOURCES: Manifest = {"requests": {"cpu": "1", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}
RESOURCES_COMMENT = """\
One worker uses one core and 160 MB, and 100 MB more while a new model is tried. Without a limit
of CPU no request waits for the next scheduling period."""


@dataclass(frozen=True)
class Container:
    """The service's container."""

    image: str
    """Name of the image."""
    user: int
    """User and group ID in the image."""
    models_in: str | None = None
    """Name of the volume with the models; None if they are in the image."""
    has_grpc: bool = False
    """Whether it has the port of gRPC, too; a predictor of KServe has one port."""

    def manifest(self, name: str) -> Manifest:
        """The container as an entry of a pod's ``containers``."""
        mounts: list[Manifest] = [{"name": "temporary", "mountPath": TEMPORARY}]
        if self.models_in is not None:
            mounts.append({"name": self.models_in, "mountPath": MODELS, "readOnly": True})
        return {
            "name": name,
            "image": self.image,
            "args": self._arguments(),
            "env": [
                {"name": f"{ENV_PREFIX}DRAIN_SECONDS", "value": str(DRAIN_S)},
                {"name": f"{ENV_PREFIX}LOG_FORMAT", "value": "json"},
            ],
            "ports": [
                {"name": port, "containerPort": number, "protocol": "TCP"}
                for port, number in self._ports().items()
            ],
            "startupProbe": _probe(health.READY, failures=START_S // _PROBE_S),
            "readinessProbe": _probe(health.READY, failures=2),
            "livenessProbe": _probe(health.LIVE, failures=6),
            "resources": RESOURCES,
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            "volumeMounts": mounts,
        }

    def pod(self) -> Manifest:
        """What the container needs of its pod, beside ``containers`` and ``volumes``."""
        return {
            "terminationGracePeriodSeconds": TERMINATION_S,
            "automountServiceAccountToken": False,
            # The variables that Kubernetes makes for a service of this name have our prefix.
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": self.user,
                "runAsGroup": self.user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }

    def _ports(self) -> dict[str, int]:
        return {PORT_NAME: PORT} | ({GRPC_PORT_NAME: GRPC_PORT} if self.has_grpc else {})

    def _arguments(self) -> Sequence[str]:
        options = ["--port", str(PORT), "--workers", str(WORKERS)]
        if self.has_grpc:
            options += ["--grpc-port", str(GRPC_PORT)]
        if self.models_in is None:
            return options
        return ["python", "-m", "trpo_deploy", "serve", MODELS, "--host", "0.0.0.0", *options]  # noqa: S104


def _probe(path: str, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": PORT_NAME},
        "periodSeconds": _PROBE_S,
        "timeoutSeconds": 3,
        "failureThreshold": failures,
    }


def temporary_volume() -> Manifest:
    """The volume for temporary files: a copy of each model, and what the service unpacks."""
    return {"name": "temporary", "emptyDir": {"sizeLimit": "1Gi"}}


def user_of_image(bento: Path) -> int:
    """User and group ID in the image of a Bento.

    Raises:
        ServeError: Its Dockerfile does not name them, or they differ.
    """
    dockerfile = (bento / DOCKERFILE).read_text(encoding="utf-8")
    found = {int(each) for each in re.findall(r"^ARG BENTO_USER_[UG]ID=(\d+)$", dockerfile, re.M)}
    if len(found) != 1:
        raise ServeError(
            f"BentoML's Dockerfile has the user IDs {sorted(found)}, expected one; install the "
            "version of BentoML that constraints.txt names"
        )
    return found.pop()
