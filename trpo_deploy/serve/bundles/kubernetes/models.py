"""Where the pods have the models from: the image, a volume, or ConfigMaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from trpo_deploy.errors import ServeError
from trpo_deploy.serve.bundles.container import Manifest
from trpo_deploy.serve.bundles.kubernetes.workload import labels
from trpo_deploy.serve.bundles.names import dns_labels
from trpo_deploy.serve.bundles.target import Contents

FOLDER = "models"
"""In the bundle: the models, if they are not in the image."""
CONFIG_MAP_BYTES = 1024 * 1024
"""Kubernetes refuses a larger ConfigMap."""
CLAIM_COMMENT = """\
Copy the content of the folder models/ to this volume. All pods read it, on whatever node they
are: take a storage class that can do that, and a size for your models. A pod restarts until it
finds a model there."""


@dataclass(frozen=True)
class ModelVolume:
    """What a place of the models adds to the base."""

    volume: Manifest | None = None
    """The pods' volume; None for the image."""
    resources: Mapping[str, tuple[Manifest, str]] = field(default_factory=dict)
    """More manifests by file name, each with a comment."""
    kustomization: Manifest = field(default_factory=dict)
    """More fields of ``kustomization.yaml``."""


def model_volume(contents: Contents) -> ModelVolume:
    """The place of the models, as the user chose it.

    Raises:
        ServeError: A ConfigMap cannot hold a model.
    """
    if contents.models_from == "volume":
        return _claim(contents.name)
    if contents.models_from == "configmap":
        return _config_maps(contents)
    return ModelVolume()


def _claim(bundle: str) -> ModelVolume:
    name = f"{bundle}-models"
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": labels(bundle)},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    volume = {
        "name": FOLDER,
        "persistentVolumeClaim": {"claimName": name, "readOnly": True},
    }
    return ModelVolume(volume, {"persistentvolumeclaim.yaml": (claim, CLAIM_COMMENT)})


def _config_maps(contents: Contents) -> ModelVolume:
    """One ConfigMap for each model; together they are one folder of models."""
    sources, generators = [], []
    for model, label in dns_labels(contents.models).items():
        name = f"{contents.name}-{label}"
        files = sorted(each.name for each in contents.models[model].iterdir())
        _check_size(model, contents.models[model])
        items = [{"key": file, "path": f"{model}/{file}"} for file in files]
        sources.append({"configMap": {"name": name, "items": items}})
        generators.append({"name": name, "files": [f"{FOLDER}/{model}/{file}" for file in files]})
    return ModelVolume(
        volume={"name": FOLDER, "projected": {"sources": sources}},
        kustomization={
            "configMapGenerator": generators,
            # With a hash in its name a changed model would replace all pods. So it replaces the
            # served model, after the service has tried it.
            "generatorOptions": {"disableNameSuffixHash": True, "labels": labels(contents.name)},
        },
    )


def _check_size(model: str, folder: Path) -> None:
    size = sum(each.stat().st_size for each in folder.iterdir())
    if size > CONFIG_MAP_BYTES:
        raise ServeError(
            f"model {model} has {size} bytes with its certificate, expected at most "
            f"{CONFIG_MAP_BYTES}, which a ConfigMap holds; take --models-from image or volume"
        )
