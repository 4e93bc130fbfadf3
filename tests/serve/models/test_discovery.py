"""Models are found in folders and files, and get their names from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.policy_files import write_policy
from trpo_deploy.errors import ServeError
from trpo_deploy.serve.models.discovery import find_models


def test_names_come_from_folders_or_files(tmp_path: Path) -> None:
    write_policy(tmp_path / "many" / "a" / "policy.onnx")
    write_policy(tmp_path / "many" / "b" / "1" / "policy.onnx")
    write_policy(tmp_path / "alone.onnx")
    assert list(find_models([tmp_path / "many", tmp_path / "alone.onnx"])) == ["a", "b", "alone"]


def test_an_empty_list_of_models_is_refused() -> None:
    with pytest.raises(ServeError, match="no model"):
        find_models([])


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    for parent in "ab":
        write_policy(tmp_path / parent / "cart" / "policy.onnx")
    with pytest.raises(ServeError, match="rename one folder"):
        find_models([tmp_path / "a" / "cart", tmp_path / "b" / "cart"])


@pytest.mark.parametrize("name", ["two words", "-flag", "umläut", "x" * 65])
def test_a_name_that_is_not_valid_in_a_url_is_refused(tmp_path: Path, name: str) -> None:
    write_policy(tmp_path / name / "policy.onnx")
    with pytest.raises(ServeError, match="rename the folder"):
        find_models([tmp_path / name])
