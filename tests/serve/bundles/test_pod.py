"""The Deployment's container runs as it says: read-only, with its arguments and its volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.serve.bundles.conftest import MODELS, SHIPPED, Bundled, manifests
from tests.serve.bundles.kubelet import ProjectedVolume
from tests.serve.bundles.pod import started_pod
from tests.serve.server import Server, wait_until
from trpo_deploy.runtime import OnnxPolicy

pytestmark = pytest.mark.slow


def states_of(server: Server) -> dict[str, str]:
    models = server.client.get("/models").json()["models"]
    return {name: model["status"] for name, model in models.items()}


def version_of(server: Server, model: str) -> object:
    reply = server.predict([0.0] * 11, model=model)
    assert reply.status_code == 200, reply.text
    return reply.json()["version"]


def sha_of(model: str) -> str:
    return OnnxPolicy(MODELS / model / "policy.onnx").sha256[:12]


def test_models_of_the_image_are_served_from_a_read_only_root(bundled: Bundled) -> None:
    with started_pod(bundled("kubernetes")) as server:
        assert states_of(server) == dict.fromkeys(SHIPPED, "ready")
        assert version_of(server, "Hopper-v5") == sha_of("Hopper-v5")
        assert server.metric("trpo_deploy_requests_in_flight") >= 0


def config_map_files(base: Path, contents: dict[str, Path]) -> dict[str, bytes]:
    """The files of the projected volume of a base.

    Args:
        base: The base.
        contents: The folder whose files a model's ConfigMap has, by model.
    """
    found = manifests(base)
    (volume,) = (
        each
        for each in found["Deployment"]["spec"]["template"]["spec"]["volumes"]
        if "projected" in each
    )
    sources: dict[str, Any] = {
        each["configMap"]["name"]: each["configMap"]["items"]
        for each in volume["projected"]["sources"]
    }
    generated = found["Kustomization"]["configMapGenerator"]
    assert [*sources] == [each["name"] for each in generated]
    files = {}
    for items, generator in zip(sources.values(), generated, strict=True):
        assert [each["key"] for each in items] == [Path(each).name for each in generator["files"]]
        for item in items:
            model = Path(item["path"]).parts[0]
            files[item["path"]] = (contents[model] / item["key"]).read_bytes()
    return files


def test_models_of_config_maps_are_served_and_replaced(bundled: Bundled, tmp_path: Path) -> None:
    base = bundled("kubernetes", "configmap")
    models = {name: base / "models" / name for name in SHIPPED}
    files = config_map_files(base, models)
    volume = ProjectedVolume(tmp_path / "volume")
    volume.update(files)
    with started_pod(base, volume.folder) as server:
        assert states_of(server) == dict.fromkeys(SHIPPED, "ready")
        assert version_of(server, "Hopper-v5") == sha_of("Hopper-v5")
        # A damaged file keeps the last good one; another policy of the same spaces replaces it.
        volume.update({**files, "Hopper-v5/policy.onnx": b"damaged"})
        assert wait_until(lambda: states_of(server)["Hopper-v5"] == "stale")
        assert version_of(server, "Hopper-v5") == sha_of("Hopper-v5")
        volume.update(config_map_files(base, {**models, "Hopper-v5": MODELS / "Hopper-v4"}))
        assert wait_until(lambda: version_of(server, "Hopper-v5") == sha_of("Hopper-v4"))
        assert states_of(server) == dict.fromkeys(SHIPPED, "ready")
