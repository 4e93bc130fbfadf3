"""``trpo-deploy doctor``: what is here, with versions, and how to get what is not."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.command import run_cli, run_process
from trpo_deploy import doctor


def test_doctor_shows_versions_of_what_is_here() -> None:
    run = run_cli("doctor")
    assert run.code == 0, run.error
    lines = [line.split() for line in run.output.splitlines()]
    assert ["here", "onnxruntime", metadata.version("onnxruntime")] in lines
    assert ["here", "train", "train"] in lines


def test_json_has_every_item(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "node").write_text("#!/bin/sh\necho v20.1.2\n")
    (tmp_path / "clang").write_text("#!/bin/sh\necho what?\n")
    (tmp_path / "gcc").write_text("not a program")
    for name in ("node", "clang", "gcc"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    value = json.loads(run_cli("doctor", "--json").output)
    programs = {item["name"]: item for item in value["programs"]}
    assert programs["node"]["version"] == "20.1.2"
    for name in ("clang", "gcc"):
        assert programs[name]["version"] == "unknown version"
    assert [name for name, item in programs.items() if item["found"]] == ["gcc", "clang", "node"]
    assert "qemu-system-arm" in programs["qemu-system-arm"]["install"]
    extras = {item["name"]: item["found"] for item in value["extras"]}
    assert {"train", "export", "serve"} <= {*extras}
    assert value["version"]


def test_what_is_missing_comes_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_problems", lambda _, extras: ([f"part-of-{extras[0]}"], []))
    monkeypatch.setattr(doctor, "PACKAGES", [doctor.Wanted(("no-such",), "use", "pip install x")])
    run = run_cli("doctor")
    assert run.code == 0, run.error
    lines = [" ".join(line.split()) for line in run.output.splitlines()]
    assert "missing no-such use; pip install x" in lines
    problem = 'train; part-of-train is missing; pip install "trpo-deploy[train]"'
    assert f"missing train {problem}" in lines


def test_doctor_imports_no_heavy_package() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnxruntime', 'gymnasium', 'bentoml', 'mujoco'):\n"
        "    sys.modules[name] = None\n"
        "from trpo_deploy.cli.app import main\n"
        "main()"
    )
    run = run_process("doctor", command=(sys.executable, "-c", code))
    assert "onnxruntime" in run.output, run.error
    assert run.code == 0
