"""InferenceServices have the fields that KServe has, and name what the bundle contains."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from tests.serve.bundles.conftest import SHIPPED, Bundled, manifests
from tests.serve.bundles.schemas import check_inference_service
from tests.serve.bundles.triton import TritonModel
from tests.serve.server import Server
from trpo_deploy.files.yaml import read_yaml

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("way", ["onnx", "image"])
def test_inference_services_are_valid(bundled: Bundled, way: str) -> None:
    found = manifests(bundled("kserve") / way)
    assert {*found} == {"InferenceService", "Kustomization"}
    check_inference_service(found["InferenceService"])
    wrong = copy.deepcopy(found["InferenceService"])
    wrong["spec"]["predictor"]["minReplica"] = 1
    with pytest.raises(AssertionError, match="no field minReplica"):
        check_inference_service(wrong)


def test_the_file_runs_on_kserves_runtime_for_onnx(bundled: Bundled) -> None:
    folder = bundled("kserve") / "onnx"
    predictor = manifests(folder)["InferenceService"]["spec"]["predictor"]
    assert predictor["model"]["modelFormat"] == {"name": "onnx"}
    assert predictor["model"]["protocolVersion"] == "v2"
    lines = (folder / "inferenceservice.yaml").read_text().splitlines()
    (storage,) = (index for index, line in enumerate(lines) if "storageUri:" in line)
    assert "# Change this" in lines[storage - 1]
    for name in SHIPPED:
        TritonModel(folder / "models" / name)


def test_the_image_is_the_bento_and_its_probes_are_endpoints(
    bundled: Bundled, server: Server
) -> None:
    folder = bundled("kserve") / "image"
    found = manifests(folder)
    (container,) = found["InferenceService"]["spec"]["predictor"]["containers"]
    (override,) = found["Kustomization"]["images"]
    assert container["image"] == override["name"]
    assert read_yaml(folder / "bento" / "bento.yaml")["service"].endswith(":PolicyService")
    assert sorted(each.name for each in (folder / "bento/src/models").iterdir()) == [*SHIPPED]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server.client.get(container[probe]["httpGet"]["path"]).status_code == 200
    # Without a grace period, and so on Knative, the service would be killed while it drains.
    annotations = found["InferenceService"]["metadata"]["annotations"]
    assert annotations == {"serving.kserve.io/deploymentMode": "RawDeployment"}


def test_kustomize_replaces_the_image(bundled: Bundled) -> None:
    from tests.serve.bundles.test_manifests import kustomize

    (built,) = kustomize(Path(bundled("kserve") / "image"))
    (container,) = built["spec"]["predictor"]["containers"]
    assert container["image"] == "registry.example.com/walkers:1"
