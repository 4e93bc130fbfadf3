"""Files are written whole or not at all, and nothing of the user's is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.atomic import atomic_path, atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.source import find_onnx, find_source


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "policy.zip"
    atomic_write(target, b"old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["policy.zip"]


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelDirError, match="cannot write"):
        atomic_write(tmp_path / "file" / "policy.zip", b"")


def test_a_folder_with_files_is_kept_without_force(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(ModelDirError, match="not empty"):
        ModelDir(tmp_path).create()
    with pytest.raises(ModelDirError, match="no model folder"):
        ModelDir(tmp_path).create(force=True)
    assert (tmp_path / "thesis.tex").read_text() == "dear"


@pytest.mark.parametrize("sign", ["policy.zip", "config.yaml"])
def test_force_removes_a_run_and_nothing_else(sign: str, tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "model")
    folder.create()
    for path in (folder.root / sign, folder.checkpoint, folder.best.onnx, folder.card):
        atomic_write(path, "env_id: CartPole-v1\n")
    notes = folder.root / "notes" / "thesis.tex"
    atomic_write(notes, "dear")
    folder.create(force=True)
    assert [path for path in folder.root.rglob("*") if path.is_file()] == [notes]


def test_a_config_of_another_program_makes_no_model_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("my: project\n")
    with pytest.raises(ModelDirError, match="no model folder"):
        ModelDir(tmp_path).create(force=True)
    assert (tmp_path / "config.yaml").read_text() == "my: project\n"


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_a_folder_is_one_runs_at_a_time(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "model")
    with folder.claimed():
        with pytest.raises(ModelDirError, match="another run is writing"), folder.claimed():
            pass
        assert folder.root.is_dir()
    with folder.claimed():
        pass
    assert list(folder.root.iterdir()) == []


NO_ROOM = """
import resource, sys
from pathlib import Path
from trpo_deploy.files.atomic import append

path = Path(sys.argv[1])
append(path, "a,b\\n")
append(path, "1,2\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # room for two bytes more
append(path, "3,4\\n")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_what_cannot_be_added_is_not_added_in_part(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    run = subprocess.run([sys.executable, "-c", NO_ROOM, path], capture_output=True, text=True)
    assert f"ModelDirError: cannot write {path}: No space left" in run.stderr
    assert path.read_text() == "a,b\n1,2\n"


def test_sources_are_found_by_their_layout(tmp_path: Path) -> None:
    zoo = tmp_path / "CartPole-v1_1"
    (zoo / "CartPole-v1").mkdir(parents=True)
    (zoo / "CartPole-v1.zip").write_bytes(b"")
    (zoo / "CartPole-v1" / "config.yml").write_text("")
    (zoo / "CartPole-v1" / "vecnormalize.pkl").write_bytes(b"")
    for given in (zoo, zoo / "CartPole-v1.zip"):
        source = find_source(given)
        assert source.env_id == "CartPole-v1"
        assert source.vecnormalize == zoo / "CartPole-v1" / "vecnormalize.pkl"
    ours = ModelDir(tmp_path / "ours")
    ours.best.root.mkdir(parents=True)
    for path in (ours.policy_zip, ours.best.policy_zip, ours.config):
        path.write_bytes(b"")
    assert find_source(ours.root).policy_zip == ours.policy_zip
    assert find_source(ours.best.root).config == ours.config


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelDirError, match="does not exist"):
        find_source(tmp_path / "nothing")
    with pytest.raises(ModelDirError, match="found: none"):
        find_source(tmp_path)
    with pytest.raises(ModelDirError, match="trpo-deploy export"):
        find_onnx(tmp_path)


def test_what_a_killed_run_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
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


def test_a_policy_zip_is_no_file_to_run(tmp_path: Path) -> None:
    policy = tmp_path / "policy.zip"
    policy.write_bytes(b"PK")
    with pytest.raises(ModelDirError, match=r"export it with: trpo-deploy export .*policy.zip"):
        find_onnx(policy)
