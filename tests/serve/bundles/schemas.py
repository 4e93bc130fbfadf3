"""Checks of manifests against the schemas of others, strictly: an unknown field is an error."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

OLDEST, NEWEST = "1.27", "1.37"
"""Versions of Kubernetes that the manifests are checked with."""
_KSERVE = Path(
    os.environ.get("TRPO_DEPLOY_KSERVE", Path(__file__).parents[3] / "build" / "kserve-0.21.0")
)
_PLAIN = {"str": str, "int": int, "bool": bool, "float": float}


def check_kubernetes(manifest: dict[str, Any], version: str) -> None:
    """Check a manifest of Kubernetes itself."""
    kubernetes_validate.validate(manifest, version, strict=True)


def check_service_monitor(manifest: dict[str, Any]) -> None:
    """Check a ServiceMonitor with models made from the operator's custom resource definitions."""
    from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

    known = ServiceMonitor.model_validate(manifest).model_dump(by_alias=True, exclude_unset=True)
    assert known == manifest, f"{manifest} has fields that the operator does not know: {known}"


def check_inference_service(manifest: dict[str, Any]) -> None:
    """Check an InferenceService with the types of KServe's SDK; skips without them.

    What its predictor takes over from a pod is checked as a pod of Kubernetes.
    """
    if not _KSERVE.is_dir():
        pytest.skip("needs KServe's SDK (scripts/install-kserve)")
    types = _Types.read(_KSERVE / "kserve" / "models")
    types.check(manifest, "V1beta1InferenceService", "")
    predictor = manifest["spec"]["predictor"]
    own = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "model"}
    pod = {name: value for name, value in predictor.items() if name not in own}
    if "containers" in pod:
        head = {"apiVersion": "v1", "kind": "Pod", "metadata": manifest["metadata"]}
        check_kubernetes({**head, "spec": pod}, NEWEST)
    else:
        assert not pod


@dataclass(frozen=True)
class _Types:
    """Fields of the SDK's generated classes: their type by JSON name."""

    fields: Mapping[str, Mapping[str, str]]

    @classmethod
    def read(cls, folder: Path) -> _Types:
        """Read the tables in the classes without importing them, which needs the whole SDK."""
        return cls(dict(each for path in folder.glob("v1*.py") for each in _tables(path)))

    def check(self, value: Any, kind: str, where: str) -> None:
        """Check a value's fields; types of Kubernetes itself are left out."""
        if found := re.fullmatch(r"list\[(.*)\]", kind):
            for index, each in enumerate(value):
                self.check(each, found[1], f"{where}[{index}]")
        elif kind in self.fields:
            fields = self.fields[kind]
            for name, each in value.items():
                assert name in fields, f"{where} has no field {name}, only {sorted(fields)}"
                self.check(each, fields[name], f"{where}.{name}")
        elif kind in _PLAIN:
            assert isinstance(value, _PLAIN[kind]), f"{where} is {value!r}, expected {kind}"
        else:
            assert kind.startswith(("V1", "dict(")), f"{where} has the unknown type {kind}"


def _tables(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            tables = {
                target.id: ast.literal_eval(each.value)
                for each in node.body
                if isinstance(each, ast.Assign) and isinstance(each.value, ast.Dict)
                for target in each.targets
                if isinstance(target, ast.Name)
            }
            names = tables["attribute_map"]
            yield node.name, {names[key]: kind for key, kind in tables["openapi_types"].items()}
