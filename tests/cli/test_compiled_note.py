"""Who trains without the compiled module is told once."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from trpo_deploy.cli.compiled_note import NOTE, say_once_if_not_compiled
from trpo_deploy.train.mlp import step_arithmetic, step_numpy


def said() -> str:
    console = Console(file=io.StringIO(), soft_wrap=True)
    say_once_if_not_compiled(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().strip()


@pytest.fixture(autouse=True)
def _no_compiled_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(step_arithmetic, "compiled", None)


def test_the_first_training_says_it_and_no_other() -> None:
    assert [said(), said()] == [NOTE, ""]


def test_without_a_folder_for_the_mark_it_is_said_each_time(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert [said(), said()] == [NOTE, NOTE]


def test_with_the_compiled_module_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_arithmetic, "compiled", step_numpy)
    assert said() == ""
    assert not (tmp_path / "cache").exists()
