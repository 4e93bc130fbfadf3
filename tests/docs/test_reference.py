"""The reference pages that are written by hand name every endpoint and every field of the files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.policy_files import write_policy
from trpo_deploy.serve.http.access import AccessControl
from trpo_deploy.serve.http.router import Router
from trpo_deploy.serve.models.own_registry import own_registry
from trpo_deploy.serve.settings import Settings

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
ELSEWHERE = {"GET /metrics", "WS /ws/NAME"}
"""Endpoints that the edge answers without the router."""


def test_every_endpoint_is_listed(tmp_path: Path) -> None:
    settings = Settings(models=(write_policy(tmp_path / "cart" / "policy.onnx"),))
    router = Router(own_registry(settings)[0], settings, AccessControl(settings))
    known = (*router._fixed.values(), *router._of_models.values())
    endpoints = {f"{endpoint.method} {endpoint.label}" for endpoint in known}
    assert set(listed_endpoints()) == endpoints | ELSEWHERE


def listed_endpoints() -> Iterator[str]:
    for line in (REFERENCE / "http.md").read_text().splitlines():
        row = re.fullmatch(r"\| (GET|POST|WS) \| (.*?) \|.*", line)
        if row:
            yield from (f"{row[1]} {path}" for path in re.findall(r"`(.*?)`", row[2]))


@pytest.mark.parametrize("name", ["policy.json", "certificate.json"])
def test_every_field_of_a_file_is_listed(name: str) -> None:
    page = (REFERENCE / "files.md").read_text()
    section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"`([a-z0-9_]+)`", section))
    for path in (ROOT / "models").glob(f"*/{name}"):
        value = json.loads(path.read_text())
        parts = [value, value.get("spec", {}), *value.get("checks", ())]
        assert {field for part in parts for field in part} <= listed
