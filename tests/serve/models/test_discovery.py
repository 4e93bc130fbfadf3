"""Models are found in folders and files, and get their names from the paths as given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.runtime.policy_files import write_policy
from trpo_deploy.serve.models.discovery import find_models


def errors(*paths: Path) -> dict[str, str]:
    found = find_models(paths)
    return {name: model.error for name, model in found.items() if model.error is not None}


def test_names_come_from_folders_or_files(tmp_path: Path) -> None:
    write_policy(tmp_path / "many" / "a" / "policy.onnx")
    write_policy(tmp_path / "many" / "b" / "1" / "policy.onnx")
    write_policy(tmp_path / "alone.onnx")
    assert list(find_models([tmp_path / "many", tmp_path / "alone.onnx"])) == ["a", "b", "alone"]


def test_the_name_is_that_of_the_link_and_not_of_its_target(tmp_path: Path) -> None:
    write_policy(tmp_path / "releases" / "v1" / "policy.onnx")
    (tmp_path / "live").symlink_to("releases/v1")
    (tmp_path / "pole.onnx").symlink_to("releases/v1/policy.onnx")
    assert list(find_models([tmp_path / "live", tmp_path / "pole.onnx"])) == ["live", "pole"]
    assert list(find_models([tmp_path])) == ["live"]


def test_a_config_map_is_one_model(tmp_path: Path) -> None:
    volume = tmp_path / "cart"
    write_policy(volume / "..2024_01_01_10_00_00.1" / "policy.onnx")
    (volume / "..data").symlink_to("..2024_01_01_10_00_00.1")
    (volume / "policy.onnx").symlink_to("..data/policy.onnx")
    assert list(find_models([volume])) == list(find_models([tmp_path])) == ["cart"]


def test_the_snapshots_of_a_hub_cache_are_models(tmp_path: Path) -> None:
    blob = write_policy(tmp_path / "blobs" / "4a5e1e4baab8")
    for name in ("c0ffee", "facade"):
        snapshot = tmp_path / "snapshots" / name
        snapshot.mkdir(parents=True)
        (snapshot / "policy.onnx").symlink_to(blob)
    assert list(find_models([tmp_path / "snapshots"])) == ["c0ffee", "facade"]
    assert list(find_models([tmp_path / "snapshots" / "facade"])) == ["facade"]


def test_a_relative_path_has_the_name_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(tmp_path / "cart" / "inner" / "policy.onnx")
    monkeypatch.chdir(tmp_path / "cart" / "inner")
    assert list(find_models([Path()])) == list(find_models([Path("policy.onnx")])) == ["inner"]
    write_policy(tmp_path / "cart" / "policy.onnx")
    assert list(find_models([Path("..")])) == ["cart"]


def test_a_path_without_a_model_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    assert find_models([]) == {}
    assert "does not exist" in errors(tmp_path / "nothing")["nothing"]
    assert "give a model folder" in errors(tmp_path)[tmp_path.name]
    (tmp_path / "policy.zip").touch()
    assert "is a policy zip" in errors(tmp_path / "policy.zip")["policy.zip"]


def test_two_models_of_one_name_are_the_first_one_and_an_error(tmp_path: Path) -> None:
    for parent in "ab":
        write_policy(tmp_path / parent / "cart" / "policy.onnx")
    found = find_models([tmp_path / "a" / "cart", tmp_path / "b"])
    assert found["cart"].path == tmp_path / "a" / "cart"
    assert "rename one folder" in (found[str(tmp_path / "b" / "cart")].error or "")


@pytest.mark.parametrize(
    "name", ["two words", "-flag", "umläut", "x" * 65, "a\nb", "\udcff", "a:b"]
)
def test_an_invalid_name_is_an_error_beside_the_other_models(tmp_path: Path, name: str) -> None:
    write_policy(tmp_path / "good" / "policy.onnx")
    write_policy(tmp_path / name / "policy.onnx")
    found = find_models([tmp_path])
    assert found["good"].error is None
    (odd,) = errors(tmp_path).items()
    assert odd[0].isascii()
    assert odd[0].isprintable()
    assert "rename the folder" in odd[1]


def test_hidden_folders_and_folders_without_a_policy_are_not_models(tmp_path: Path) -> None:
    for name in (".trash", "good", "..data"):
        write_policy(tmp_path / name / "policy.onnx")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    assert list(find_models([tmp_path])) == ["good"]


def test_whatever_has_the_name_of_a_policy_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "folder" / "policy.onnx").mkdir(parents=True)
    for name in ("fifo", "link"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "fifo" / "policy.onnx")
    (tmp_path / "link" / "policy.onnx").symlink_to("nowhere")
    assert list(find_models([tmp_path])) == ["fifo", "folder", "link"]
