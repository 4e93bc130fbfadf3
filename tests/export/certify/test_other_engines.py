"""``verify --engine``: the file must be the policy in each engine that the user names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command import Run, run_cli, run_process
from tests.export.policies import exported, make_model
from tests.export.targets.programs import KINDS, make
from trpo_deploy.export import verify_policy
from trpo_deploy.export.certify import other_engines
from trpo_deploy.export.certify.engine_loaders import Load
from trpo_deploy.export.certify.engines import load_onnxruntime
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.certify.other_engines import OTHER_ENGINES, OtherEngine
from trpo_deploy.files.runs import find_run
from trpo_deploy.spec.policy_spec import ACTION, Inputs

ROOT = Path(__file__).parents[3]
PACKAGES = Path(os.environ.get("TRPO_DEPLOY_ENGINES", ROOT / "build" / "engines"))


def verify(folder: Path, *options: object) -> Run:
    """Run ``verify`` in a process that finds the engines."""
    if not PACKAGES.is_dir():
        pytest.skip("needs OpenVINO, tract and OpenCV (scripts/install-engines)")
    found = [str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    return run_process(
        *("verify", folder, folder / "policy.onnx", *options),
        env={"PYTHONPATH": os.pathsep.join(found)},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("guarded", ("--image-layout", "hwc")),
        ("action multi discrete n-d from start", ()),
        ("stack of images", ("--frame-stack", 4, "--image-layout", "hwc")),
    ],
)
def test_named_engines_are_compared_on_all_rows(
    kind: str, options: tuple[object, ...], tmp_path: Path
) -> None:
    make(tmp_path, **KINDS[kind])
    named = [option for name in OTHER_ENGINES for option in ("--engine", name)]
    run = verify(tmp_path, *named, *options, "-o", tmp_path / "found.json")
    assert run.code == 0, run.output + run.error
    certificate = json.loads((tmp_path / "found.json").read_text())
    rows = {each["name"]: each["measured"].get("rows") for each in certificate["checks"]}
    for name in OTHER_ENGINES:
        assert certificate["versions"][name]
        for which in ("ordinary observations", "edges"):
            expected = rows[f"parity, onnxruntime, {which}"]
            assert rows[f"parity, {name}, {which}"] == expected > 0
        assert (f"guard, {name}" in rows) == (kind == "guarded")


@pytest.mark.slow
def test_a_policy_that_an_engine_computes_wrongly_fails_there_only(tmp_path: Path) -> None:
    make(tmp_path, **KINDS["observation box uint16"])  # OpenCV 5.0 gives NaN
    right = verify(tmp_path, "--engine", "openvino")
    assert right.code == 0, right.output + right.error
    wrong = verify(tmp_path, "--engine", "opencv")
    assert wrong.code == 1
    assert "NOT the same policy" in wrong.output
    assert "parity, opencv" in wrong.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    exported(make_model(), tmp_path, verify=False)
    return tmp_path


def install(monkeypatch: pytest.MonkeyPatch, load: Load) -> None:
    """Add an engine ``fake`` that is in an installed package."""
    monkeypatch.setattr(other_engines, "OTHER_ENGINES", {"fake": OtherEngine(("numpy",), load)})


def as_onnxruntime(content: bytes, path: Path) -> Any:
    spec = ExportedFile.parse(path.read_bytes()).spec
    return load_onnxruntime(content, spec.inputs).run


def test_one_wrong_action_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_wrong = False

    def load(content: bytes, names: tuple[str, ...]) -> Any:
        right = as_onnxruntime(content, folder / "policy.onnx")

        def run(batch: Inputs) -> dict[str, Any]:
            found = {name: np.array(right(batch)[name]) for name in names}
            if is_wrong and len(found[ACTION]) == 7:
                found[ACTION][3, 0] += 1e-3
            return found

        return run

    install(monkeypatch, load)
    for is_wrong in (False, True):
        certificate = verify_policy(find_run(folder), folder / "policy.onnx", engines=["fake"])
        assert certificate.passed != is_wrong, certificate.failures()
    assert all("fake" in each.name for each in certificate.checks if each.failed)


def test_an_engine_that_cannot_load_or_run_the_file_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no operator\nClip")

    for load in (fail, lambda *_: fail, lambda *_: lambda _: {ACTION: np.zeros(5)}):
        install(monkeypatch, load)
        run = run_cli("verify", folder, folder / "policy.onnx", "--engine", "fake")
        run.assert_one_clear_line("fake cannot run the file (")


def test_an_engine_that_is_unknown_or_not_installed_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "policy.onnx"
    run = run_cli("verify", folder, file, "--engine", "mnn")
    run.assert_one_clear_line("unknown engine 'mnn'; expected one of openvino, tract, opencv")
    absent = {"absent": OtherEngine(("no-such-engine", "another"), OTHER_ENGINES["tract"].load)}
    monkeypatch.setattr(other_engines, "OTHER_ENGINES", absent)
    run = run_cli("verify", folder, file, "--engine", "absent")
    run.assert_one_clear_line("no-such-engine is not installed; run: pip install no-such-engine")


def test_a_folder_of_a_target_has_no_other_engines(folder: Path) -> None:
    run = run_cli("verify", folder, folder, "--engine", "tract")
    run.assert_one_clear_line("--engine runs an ONNX file", "is a folder", "give the policy.onnx")
