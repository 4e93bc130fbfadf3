"""The target ``kserve``: two ways to run the models on KServe, each a folder to apply.

- ``onnx/``: KServe's own runtime for ONNX files, which is Triton. ``onnx/models`` is the model
  repository for the storage of the cluster.
- ``image/``: the service's image as a custom predictor. Its Open Inference endpoints are the same
  as Triton's, and it checks observations.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from trpo_deploy.files.yaml import to_commented_yaml
from trpo_deploy.serve.bundles.bento import build_bento, docker_build
from trpo_deploy.serve.bundles.container import (
    RESOURCES_COMMENT,
    Container,
    Manifest,
    temporary_volume,
    user_of_image,
)
from trpo_deploy.serve.bundles.kubernetes.target import (
    IMAGE_COMMENT,
    TAG,
    image_name,
    image_override,
)
from trpo_deploy.serve.bundles.kubernetes.workload import LOAD, REPLICAS
from trpo_deploy.serve.bundles.target import Contents
from trpo_deploy.serve.bundles.triton.target import write_repository

ONNX, IMAGE = "onnx", "image"
"""The two folders."""
_SERVICE = "inferenceservice.yaml"
_MODE = {"serving.kserve.io/deploymentMode": "RawDeployment"}
"""KServe's other mode, on Knative, takes no ``terminationGracePeriodSeconds``. From 0.16 on this
mode is also called Standard."""
_STORAGE_COMMENT = """\
Change this to where you copied the content of onnx/models: s3://, gs:// or pvc://."""
_REPLICAS_COMMENT = "Change both limits to what your robots need; the page Scale calculates it."
_FORMAT_COMMENT = "KServe takes its Triton runtime for this, which needs protocolVersion v2."


def write(contents: Contents, folder: Path) -> None:
    """Write both folders."""
    name = contents.name
    repository, bento = folder / ONNX / "models", folder / IMAGE / "bento"
    repository.mkdir(parents=True)
    write_repository(contents.models, repository)
    comments = {"modelFormat": _FORMAT_COMMENT, "storageUri": _STORAGE_COMMENT}
    _write(folder / ONNX, _onnx_service(name), comments)
    bento.mkdir(parents=True)
    build_bento(contents.models, bento)
    service = _image_service(name, Container(name, user_of_image(bento)))
    comments = {"resources": RESOURCES_COMMENT}
    _write(folder / IMAGE, service, comments, images=image_override(name))


def next_steps(contents: Contents, folder: Path) -> Sequence[tuple[str, str]]:
    """Apply one of the two folders."""
    image = f"{image_name(contents.name)}:{TAG}"
    return [
        ("onnx", f"kubectl apply -k {shlex.quote(str(folder / ONNX))}"),
        ("image", docker_build(folder / IMAGE / "bento", image)),
        ("push", f"docker push {image}"),
        ("apply", f"kubectl apply -k {shlex.quote(str(folder / IMAGE))}"),
    ]


def _write(folder: Path, service: Manifest, comments: Mapping[str, str], **fields: object) -> None:
    """Write an InferenceService and its kustomization."""
    text = to_commented_yaml(service, {"minReplicas": _REPLICAS_COMMENT, **comments})
    (folder / _SERVICE).write_text(text, encoding="utf-8")
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [_SERVICE],
        **fields,
    }
    about_images = {"images": IMAGE_COMMENT} if "images" in fields else {}
    text = to_commented_yaml(kustomization, about_images)
    (folder / "kustomization.yaml").write_text(text, encoding="utf-8")


def _inference_service(name: str, predictor: Manifest, **metadata: object) -> Manifest:
    smallest, largest = REPLICAS
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, **metadata},
        "spec": {"predictor": {"minReplicas": smallest, "maxReplicas": largest, **predictor}},
    }


def _onnx_service(name: str) -> Manifest:
    model = {
        "modelFormat": {"name": "onnx"},
        "protocolVersion": "v2",
        "storageUri": f"s3://bucket.example.com/{name}",
    }
    return _inference_service(name, {"model": model})


def _image_service(name: str, container: Container) -> Manifest:
    predictor = {
        "scaleMetric": "cpu",
        "scaleTarget": round(100 * LOAD),  # percent of the core that the container asks for
        **container.pod(),
        "containers": [container.manifest("kserve-container")],
        "volumes": [temporary_volume()],
    }
    return _inference_service(name, predictor, annotations=_MODE)
