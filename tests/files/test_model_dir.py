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
    for force in (False, True):
        with pytest.raises(ModelDirError, match="not empty and holds no run"):
            ModelDir(tmp_path).create(force=force)
    assert (tmp_path / "thesis.tex").read_text() == "dear"


RUN = ("config.yaml", "checkpoint/checkpoint.npz", "policy.zip", "best/policy.onnx", "README.md")


@pytest.mark.parametrize("files", [RUN, RUN[:1], RUN[:2]], ids=["run", "just begun", "killed"])
def test_force_removes_the_files_of_a_run_only(files: tuple[str, ...], tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "model")
    folder.create()
    for name in files:
        atomic_write(folder.root / name, "env_id: CartPole-v1\n")
    notes = folder.root / "notes" / "thesis.tex"
    atomic_write(notes, "dear")
    folder.create(force=True)
    assert [path for path in folder.root.rglob("*") if path.is_file()] == [notes]


def test_a_folder_with_the_config_of_another_program_is_not_a_model_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("my: project\n")
    with pytest.raises(ModelDirError, match="holds no run"):
        ModelDir(tmp_path).create(force=True)
    assert (tmp_path / "config.yaml").read_text() == "my: project\n"


@pytest.mark.parametrize("config", ["env_id: CartPole-v1\n", "my: project\n", None])
def test_force_never_replaces_a_policy_that_was_put_there(
    config: str | None, tmp_path: Path
) -> None:
    """Such as a policy of ``models/``, or someone's own zip and page of that name."""
    files = {"policy.zip": "zip", "README.md": "mine", "policy.onnx": "onnx"}
    if config is not None:
        files["config.yaml"] = config
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelDirError, match="training does not replace"):
        ModelDir(tmp_path).create(force=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_a_removal_that_was_interrupted_can_be_repeated(tmp_path: Path) -> None:
    """After any number of removed files the folder still counts as a run's."""
    folder = ModelDir(tmp_path / "model")
    for removed in range(len(folder._files())):
        for path in folder._files()[removed:]:
            atomic_write(path, "env_id: CartPole-v1\n")
        folder.create(force=True)
        assert list(folder.root.iterdir()) == []


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
