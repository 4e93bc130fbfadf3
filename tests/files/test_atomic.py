"""Files are written and extended completely or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.atomic import atomic_path, atomic_write


def test_an_error_while_writing_leaves_the_old_file_only(tmp_path: Path) -> None:
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


def test_the_error_names_the_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelDirError, match="cannot write"):
        atomic_write(tmp_path / "file" / "policy.zip", b"")


def test_a_file_is_flushed_while_it_is_open_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to flush a file that is open for reading only."""
    flushed = []

    def fsync(descriptor: int) -> None:
        os.write(descriptor, b"")  # raises OSError if it is not open for writing
        flushed.append(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    atomic_write(tmp_path / "policy.zip", b"new")
    assert (tmp_path / "policy.zip").read_bytes() == b"new"
    assert len(flushed) == 1


NO_ROOM = """
import resource, sys
from pathlib import Path
from trpo_deploy.files.atomic import append

path = Path(sys.argv[1])
append(path, "a,b\\n")
append(path, "1,2\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # room for two more bytes
append(path, "3,4\\n")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file size limit")
def test_an_append_that_fails_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    run = subprocess.run([sys.executable, "-c", NO_ROOM, path], capture_output=True, text=True)
    assert f"ModelDirError: cannot write {path}: No space left" in run.stderr
    assert path.read_text() == "a,b\n1,2\n"
