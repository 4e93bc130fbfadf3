"""The target ``kubernetes``: the files of a Kustomize base, and the image that it runs.

``kubectl apply -k FOLDER`` creates the objects. An overlay of the user's own can change them.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from trpo_deploy.files.yaml import to_commented_yaml
from trpo_deploy.serve.bundles.bento import build_bento, docker_build
from trpo_deploy.serve.bundles.container import (
    RESOURCES_COMMENT,
    Container,
    Manifest,
    user_of_image,
)
from trpo_deploy.serve.bundles.kubernetes import network, workload
from trpo_deploy.serve.bundles.kubernetes.models import FOLDER, ModelVolume, model_volume
from trpo_deploy.serve.bundles.target import Contents

IMAGE = "image"
"""The folder of the Bento."""
REGISTRY, TAG = "registry.example.com", "1"
IMAGE_COMMENT = "Change newName and newTag to the image in your registry."
MONITOR = "servicemonitor.yaml"
START_COMMENT = f"""\
Apply with: kubectl apply --server-side -k FOLDER
Without the Prometheus operator in your cluster, remove {MONITOR} from the list."""


def write(contents: Contents, folder: Path) -> None:
    """Write the base."""
    models = model_volume(contents)
    bento = folder / IMAGE
    bento.mkdir()
    if models.volume is None:
        build_bento(contents.models, bento)
    else:
        build_bento({}, bento)
        for name, model in contents.models.items():
            shutil.copytree(model, folder / FOLDER / name)
    for name, (manifest, comments) in _manifests(contents, models, bento).items():
        (folder / name).write_text(to_commented_yaml(manifest, comments), encoding="utf-8")


def next_steps(contents: Contents, folder: Path) -> Sequence[tuple[str, str]]:
    """Build the image, push it, and apply the base."""
    image = f"{image_name(contents.name)}:{TAG}"
    return [
        ("image", docker_build(folder / IMAGE, image)),
        ("push", f"docker push {image}"),
        ("apply", f"kubectl apply --server-side -k {shlex.quote(str(folder))}"),
    ]


def image_name(name: str) -> str:
    """The name of the image, which the user replaces by one of their own registry."""
    return f"{REGISTRY}/{name}"


def image_override(name: str) -> list[Manifest]:
    """Kustomize's field ``images``: the one place where a user changes the image."""
    return [{"name": name, "newName": image_name(name), "newTag": TAG}]


def _manifests(
    contents: Contents, models: ModelVolume, bento: Path
) -> Mapping[str, tuple[Manifest, Mapping[str, str]]]:
    """All manifests by file name, each with its comments."""
    name = contents.name
    volume = None if models.volume is None else models.volume["name"]
    container = Container(name, user_of_image(bento), volume, has_grpc=True)
    manifests: dict[str, tuple[Manifest, Mapping[str, str]]] = {
        "deployment.yaml": (
            workload.deployment(name, container, models.volume),
            {"resources": RESOURCES_COMMENT},
        ),
        "service.yaml": (network.service(name), {}),
        "service-pods.yaml": (network.pods_service(name), {"": network.PODS_COMMENT}),
        "horizontalpodautoscaler.yaml": (
            workload.autoscaler(name),
            {"": workload.REPLICAS_COMMENT, "metrics": workload.METRICS_COMMENT},
        ),
        "poddisruptionbudget.yaml": (workload.disruption_budget(name), {}),
        "networkpolicy.yaml": (
            network.network_policy(name),
            {"ingress": network.POLICY_COMMENT},
        ),
        MONITOR: (network.service_monitor(name), {"": network.MONITOR_COMMENT}),
    }
    for file, (manifest, comment) in models.resources.items():
        manifests[file] = manifest, {"": comment}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(manifests),
        "images": image_override(name),
        **models.kustomization,
    }
    comments = {"": START_COMMENT, "images": IMAGE_COMMENT}
    return {"kustomization.yaml": (kustomization, comments), **manifests}
