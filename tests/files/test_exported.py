"""The exported file that a MODEL argument names."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.exported import changed_sources, find_onnx


def test_a_folder_and_the_file_in_it_name_the_same_exported_file(tmp_path: Path) -> None:
    onnx = tmp_path / "policy.onnx"
    onnx.write_bytes(b"")
    assert find_onnx(tmp_path) == find_onnx(onnx) == onnx


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "does not exist"),
        ("", "has no policy.onnx; write it with: trpo-deploy export"),
        ("policy.zip", r"a policy zip, not an ONNX file; export it with: .*policy\.zip"),
    ],
)
def test_the_error_says_how_to_get_an_exported_file(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "policy.zip").write_bytes(b"PK")
    with pytest.raises(ModelDirError, match=says):
        find_onnx(tmp_path / name)


def test_only_sources_that_are_there_and_differ_count_as_changed(tmp_path: Path) -> None:
    (tmp_path / "policy.zip").write_bytes(b"new")
    (tmp_path / "vecnormalize.pkl").write_bytes(b"same")
    sources = {
        "policy.zip": sha256(b"old").hexdigest(),
        "vecnormalize.pkl": sha256(b"same").hexdigest(),
        "elsewhere.zip": sha256(b"").hexdigest(),
    }
    assert changed_sources(tmp_path / "policy.onnx", sources) == ["policy.zip"]
