"""The manifests for Kubernetes: valid, and in agreement with the service that they run."""

from __future__ import annotations

import copy
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.serve.bundles.conftest import MODELS, SHIPPED, Bundled, manifests
from tests.serve.bundles.schemas import NEWEST, OLDEST, check_kubernetes, check_service_monitor
from tests.serve.server import Server
from trpo_deploy.serve.process.supervisor import STOP_S
from trpo_deploy.serve.settings import Settings

PLACES = ("image", "volume", "configmap")
OTHERS_KINDS = ("Kustomization", "ServiceMonitor")
pytestmark = pytest.mark.slow


def container_of(deployment: dict[str, Any]) -> dict[str, Any]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def environment_of(deployment: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container_of(deployment)["env"]}


@pytest.mark.parametrize("place", PLACES)
def test_manifests_are_valid_for_old_and_new_kubernetes(bundled: Bundled, place: str) -> None:
    found = manifests(bundled("kubernetes", place))
    for kind, manifest in found.items():
        if kind not in OTHERS_KINDS:
            check_kubernetes(manifest, OLDEST)
            check_kubernetes(manifest, NEWEST)
    check_service_monitor(found["ServiceMonitor"])
    expected = {
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    volume = {"PersistentVolumeClaim"} if place == "volume" else set()
    assert {*found} - {*OTHERS_KINDS} == expected | volume


def test_the_checks_refuse_a_field_that_kubernetes_does_not_have(bundled: Bundled) -> None:
    found = copy.deepcopy(dict(manifests(bundled("kubernetes"))))
    container_of(found["Deployment"])["readonlyRootFilesystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readonlyRootFilesystem"):
        check_kubernetes(found["Deployment"], NEWEST)
    found["ServiceMonitor"]["spec"]["endpoints"][0]["pathh"] = "/"
    with pytest.raises(AssertionError, match="pathh"):
        check_service_monitor(found["ServiceMonitor"])


def kustomize(folder: Path) -> list[dict[str, Any]]:
    """Build a base with kubectl, which needs no cluster for that."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    output = subprocess.run(
        ["kubectl", "kustomize", folder], check=True, capture_output=True, text=True, timeout=60
    )
    assert output.stderr == ""
    return list(yaml.safe_load_all(output.stdout))


@pytest.mark.parametrize("place", PLACES)
def test_kustomize_builds_the_base(bundled: Bundled, place: str) -> None:
    folder = bundled("kubernetes", place)
    built = kustomize(folder)
    written = manifests(folder)
    (deployment,) = (each for each in built if each["kind"] == "Deployment")
    image = container_of(deployment)["image"]
    assert image == "registry.example.com/walkers:1"
    expected = copy.deepcopy(written["Deployment"])
    container_of(expected)["image"] = image
    assert deployment == expected
    maps = {each["metadata"]["name"]: each for each in built if each["kind"] == "ConfigMap"}
    assert len(built) == len(written["Kustomization"]["resources"]) + len(maps)
    if place != "configmap":
        assert not maps
        return
    sources = deployment["spec"]["template"]["spec"]["volumes"][1]["projected"]["sources"]
    content = {item: data for each in sources for item, data in projected(each, maps).items()}
    assert content == {
        f"{model}/{file}": (MODELS / model / file).read_bytes()
        for model in SHIPPED
        for file in ("policy.onnx", "certificate.json")
    }


def projected(source: dict[str, Any], maps: Mapping[str, dict[str, Any]]) -> dict[str, bytes]:
    """Files that a source of a projected volume has, by path."""
    config_map = maps[source["configMap"]["name"]]
    content = {key: text.encode() for key, text in config_map.get("data", {}).items()}
    binary = config_map.get("binaryData", {})
    content |= {key: b64decode(text) for key, text in binary.items()}
    return {item["path"]: content[item["key"]] for item in source["configMap"]["items"]}


def test_probes_and_metrics_are_endpoints_of_the_service(bundled: Bundled, server: Server) -> None:
    found = manifests(bundled("kubernetes"))
    container = container_of(found["Deployment"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        answer = server.client.get(container[probe]["httpGet"]["path"])
        assert answer.status_code == 200, probe
    assert server.predict([1, 2, 3, 4], model="box").status_code == 200
    metrics = server.client.get(found["ServiceMonitor"]["spec"]["endpoints"][0]["path"]).text
    _, in_flight = found["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert f"\n{in_flight['pods']['metric']['name']} " in metrics


def test_the_autoscaler_keeps_the_planned_load_of_the_cores_that_a_pod_asks_for(
    bundled: Bundled,
) -> None:
    found = manifests(bundled("kubernetes"))
    cpu, in_flight = found["HorizontalPodAutoscaler"]["spec"]["metrics"]
    container = container_of(found["Deployment"])
    workers = container["args"][container["args"].index("--workers") + 1]
    # Utilization is a percentage of the request, and a worker uses at most one core.
    assert container["resources"]["requests"]["cpu"] == workers
    assert cpu["resource"] == {
        "name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 60},
    }
    assert in_flight["pods"]["target"] == {"type": "AverageValue", "averageValue": "1500m"}
    predictor = manifests(bundled("kserve") / "image")["InferenceService"]["spec"]["predictor"]
    assert (predictor["scaleMetric"], predictor["scaleTarget"]) == ("cpu", 60)


def test_the_addresses_of_the_pods_have_a_service_that_prometheus_does_not_scrape(
    bundled: Bundled,
) -> None:
    folder = bundled("kubernetes")
    text = (folder / "service-pods.yaml").read_text()
    headless, balanced = yaml.safe_load(text), manifests(folder)["Service"]
    check_kubernetes(headless, OLDEST)
    assert headless["metadata"]["name"] == "walkers-pods"
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["spec"]["selector"] == balanced["spec"]["selector"]
    (port,) = headless["spec"]["ports"]
    assert port in balanced["spec"]["ports"]
    (scraped,) = manifests(folder)["ServiceMonitor"]["spec"]["endpoints"]
    assert port["name"] == "grpc" != scraped["port"]


@pytest.mark.parametrize("place", PLACES)
def test_every_object_has_the_label_of_the_bundle(bundled: Bundled, place: str) -> None:
    for each in kustomize(bundled("kubernetes", place)):
        assert each["metadata"]["labels"] == {"app.kubernetes.io/name": "walkers"}, each["kind"]


@pytest.mark.parametrize(
    ("name", "option"), [("http", "--port"), ("grpc", "--grpc-port")], ids=["http", "grpc"]
)
def test_a_port_has_one_number_and_one_name(name: str, option: str, bundled: Bundled) -> None:
    found = manifests(bundled("kubernetes"))
    container = container_of(found["Deployment"])
    arguments = container["args"]
    (port,) = (each for each in container["ports"] if each["name"] == name)
    assert arguments[arguments.index(option) + 1] == str(port["containerPort"])
    (service_port,) = (each for each in found["Service"]["spec"]["ports"] if each["name"] == name)
    assert (service_port["targetPort"], service_port["port"]) == (name, port["containerPort"])
    (ingress,) = found["NetworkPolicy"]["spec"]["ingress"]
    assert name in [each["port"] for each in ingress["ports"]]


def test_probes_and_metrics_go_to_the_port_of_http(bundled: Bundled) -> None:
    found = manifests(bundled("kubernetes"))
    container = container_of(found["Deployment"])
    probes = [container[f"{each}Probe"]["httpGet"] for each in ("startup", "readiness", "liveness")]
    monitored = found["ServiceMonitor"]["spec"]["endpoints"]
    assert {each["port"] for each in (*probes, *monitored)} == {"http"}


def test_selectors_find_the_pods(bundled: Bundled) -> None:
    found = manifests(bundled("kubernetes"))
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        found["Deployment"]["spec"]["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(each == labels for each in selectors)
    monitored = found["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert monitored == found["Service"]["metadata"]["labels"]
    target = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target == {
        "apiVersion": found["Deployment"]["apiVersion"],
        "kind": "Deployment",
        "name": found["Deployment"]["metadata"]["name"],
    }


def test_a_pod_is_not_killed_before_the_service_has_stopped(
    bundled: Bundled, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = manifests(bundled("kubernetes"))["Deployment"]
    for name, value in environment_of(deployment).items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.drain_seconds >= 5  # while other nodes still send requests
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > settings.drain_seconds + STOP_S
    # A stuck worker is replaced by the supervisor before the whole pod is.
    probe = container_of(deployment)["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] > settings.stuck_worker_seconds


def test_a_volume_is_mounted_where_the_service_looks_for_models(bundled: Bundled) -> None:
    """As ConfigMaps are, with which a server is started in ``test_pod``."""
    pods = [
        manifests(bundled("kubernetes", place))["Deployment"]["spec"]["template"]["spec"]
        for place in ("volume", "configmap")
    ]
    assert pods[0]["containers"] == pods[1]["containers"]
    (volume,) = (each for each in pods[0]["volumes"] if "persistentVolumeClaim" in each)
    claim = manifests(bundled("kubernetes", "volume"))["PersistentVolumeClaim"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert volume["name"] in {each["name"] for each in pods[0]["containers"][0]["volumeMounts"]}


def test_the_pod_has_no_rights(bundled: Bundled) -> None:
    deployment = manifests(bundled("kubernetes"))["Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    dockerfile = bundled("kubernetes") / "image" / "env" / "docker" / "Dockerfile"
    user = pod["securityContext"]["runAsUser"]
    assert f"ARG BENTO_USER_UID={user}\n" in dockerfile.read_text()
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container_of(deployment)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_comments_say_what_to_change(bundled: Bundled) -> None:
    folder = bundled("kubernetes")
    assert "adapter" in (folder / "horizontalpodautoscaler.yaml").read_text()
    lines = (folder / "kustomization.yaml").read_text().splitlines()
    assert lines[lines.index("images:") - 1].startswith("# Change newName and newTag")
    assert all("&id" not in path.read_text() for path in folder.glob("*.yaml"))
