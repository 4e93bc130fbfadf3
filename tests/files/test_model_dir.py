"""A model folder takes one run at a time, and files of the user stay."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir


def test_files_of_the_user_stay_with_and_without_force(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(ModelDirError, match="not empty"):
        ModelDir(tmp_path).create()
    with pytest.raises(ModelDirError, match="not a model folder"):
        ModelDir(tmp_path).create(force=True)
    assert (tmp_path / "thesis.tex").read_text() == "dear"


@pytest.mark.parametrize("sign", ["policy.zip", "config.yaml"])
def test_force_removes_the_files_of_a_run_only(sign: str, tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "model")
    folder.create()
    for path in (folder.root / sign, folder.checkpoint, folder.best.onnx, folder.card):
        atomic_write(path, "env_id: CartPole-v1\n")
    notes = folder.root / "notes" / "thesis.tex"
    atomic_write(notes, "dear")
    folder.create(force=True)
    assert [path for path in folder.root.rglob("*") if path.is_file()] == [notes]


def test_a_folder_with_the_config_of_another_program_is_not_a_model_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("my: project\n")
    with pytest.raises(ModelDirError, match="not a model folder"):
        ModelDir(tmp_path).create(force=True)
    assert (tmp_path / "config.yaml").read_text() == "my: project\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_two_runs_cannot_write_into_one_folder(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "model")
    with folder.claimed():
        with pytest.raises(ModelDirError, match="another run is writing"), folder.claimed():
            pass
        assert folder.root.is_dir()
    with folder.claimed():
        pass
    assert list(folder.root.iterdir()) == []


def test_sweep_removes_the_temporary_files_of_a_run_only(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path)
    left = [
        ".policy.zip.a1b2.tmp",
        "best/.vecnormalize.pkl.x.tmp",
        "checkpoint/.checkpoint.npz.y.tmp",
    ]
    kept = [".notes.tmp", "policy.zip", "deeper/.policy.zip.z.tmp", ".policy.zip.swp"]
    for name in left + kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    folder.sweep()
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == set(kept)
