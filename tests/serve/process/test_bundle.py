"""A bundle is a complete Bento: it runs elsewhere, with the versions of here, without torch."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

from tests.runtime.policy_files import OBSERVATION_SPACES, write_policy
from tests.serve.process.bentoml_server import bentoml_serve
from trpo_deploy.errors import ServeError
from trpo_deploy.serve import bundle
from trpo_deploy.serve.process.requirements import pin_requirements

BLOCKED = "torch stable_baselines3 sb3_contrib gymnasium tensorboard"


def test_a_bundle_runs_from_another_folder_without_torch(tmp_path: Path) -> None:
    for name in ("box", "dict"):
        write_policy(tmp_path / "models" / name / "policy.onnx", OBSERVATION_SPACES[name])
    bundle([tmp_path / "models"], tmp_path / "bento")
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(tmp_path / "bento", moved)
    shutil.rmtree(tmp_path / "bento")
    shutil.rmtree(tmp_path / "models")
    # An interpreter in which nothing for training can be imported.
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(
        f"import sys\nfor name in {BLOCKED!r}.split():\n    sys.modules[name] = None\n"
    )
    with bentoml_serve(str(moved), tmp_path / "home", PYTHONPATH=str(blocker)) as url:
        answer = httpx.post(f"{url}/models/box/predict", json={"observation": [1, 2, 3, 4]})
        assert answer.status_code == 200
        assert sorted(httpx.get(f"{url}/models").json()["models"]) == ["box", "dict"]
    requirements = (moved / "env" / "python" / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in requirements if line)
    assert not [line for line in requirements if line.split("==")[0] in BLOCKED.split()]
    assert (moved / "env" / "docker" / "Dockerfile").is_file()


def test_bundle_refuses_an_existing_folder(tmp_path: Path) -> None:
    file = write_policy(tmp_path / "box" / "policy.onnx")
    (tmp_path / "out").mkdir()
    with pytest.raises(ServeError, match="exists"):
        bundle([file], tmp_path / "out")


def test_bundle_refuses_a_model_that_cannot_be_served(tmp_path: Path) -> None:
    write_policy(tmp_path / "good" / "policy.onnx")
    write_policy(tmp_path / "bad" / "policy.onnx").write_bytes(b"nothing")
    with pytest.raises(ServeError, match="ONNX file"):
        bundle([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pins_are_the_installed_versions_of_direct_and_indirect_requirements() -> None:
    import numpy as np

    pins = dict(line.split("==") for line in pin_requirements("trpo-deploy", "serve"))
    assert pins["numpy"] == np.__version__
    assert "starlette" in pins  # required by BentoML
    assert "torch" not in pins
    assert "trpo-deploy" not in pins
    with pytest.raises(ServeError, match="not installed"):
        pin_requirements("no-such-distribution")
