"""The models that ship: current format, certified, and none of them twice."""

from __future__ import annotations

import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from trpo_deploy.files.certificate import read_certificate
from trpo_deploy.files.exported import changed_sources, find_onnx
from trpo_deploy.files.runs import find_run
from trpo_deploy.play import evaluate
from trpo_deploy.runtime import OnnxPolicy

MODELS = sorted(path.parent for path in Path(__file__).parents[2].glob("models/*/policy.zip"))


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_a_shipped_model_is_certified_and_records_its_environment(model: Path) -> None:
    onnx = find_onnx(model)
    policy, certificate = OnnxPolicy(onnx), read_certificate(onnx)
    assert certificate is not None
    assert certificate["verdict"] == "pass"
    assert certificate["sha256"]["policy.onnx"] == policy.sha256
    assert not changed_sources(onnx, policy.spec.source_sha256)
    environment = policy.spec.environment
    assert environment is not None
    assert environment.unrecorded == ()
    assert environment.id == model.name == find_run(model).settings.env_id


def test_no_two_shipped_models_have_the_same_weights() -> None:
    hashes = {}
    for model in MODELS:
        with zipfile.ZipFile(model / "policy.zip") as archive:
            hashes[model.name] = sha256(archive.read("policy.pth")).hexdigest()
    assert len(set(hashes.values())) == len(MODELS) > 1, hashes


@pytest.mark.parametrize("task", ["HalfCheetah", "Swimmer"])
def test_a_policy_plays_the_older_version_of_the_same_task(task: str) -> None:
    pytest.importorskip("mujoco")
    model = next(path for path in MODELS if path.name == f"{task}-v5")
    newer, older = (evaluate(model, env_id=f"{task}-v{n}", episodes=1) for n in (5, 4))
    assert older.env_id == f"{task}-v4"
    assert older.returns.tolist() == newer.returns.tolist()
