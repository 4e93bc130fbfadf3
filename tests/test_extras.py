"""Extras are checked against the metadata of installed distributions, nothing is imported."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from trpo_deploy import extras
from trpo_deploy.errors import MissingExtraError

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Add a distribution to ``sys.path`` that consists of metadata alone."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def add(name: str, version: str = "1.0", requires: tuple[str, ...] = ()) -> None:
        markers = re.findall(r"extra == '([^']+)'", " ".join(requires))
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
        lines += [f"Provides-Extra: {extra}" for extra in dict.fromkeys(markers)]
        lines += [f"Requires-Dist: {text}" for text in requires]
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("\n".join(lines) + "\n")

    return add


@pytest.mark.parametrize("extra", ["train", "export", "serve", "video"])
def test_an_installed_extra_is_accepted(extra: str) -> None:
    extras.require(extra)


def test_only_missing_packages_are_named_with_the_pip_line(install: Install) -> None:
    install("present-one")
    requires = ("present-one>=0.5; extra == 'train'", "Absent-Two>=1; extra == 'train'")
    install("trpo-deploy", requires=(*requires, "absent-three; extra == 'export'"))
    with pytest.raises(MissingExtraError) as caught:
        extras.require("train", "export")
    assert str(caught.value) == (
        'Absent-Two, absent-three not installed; run: pip install "trpo-deploy[train,export]"'
    )


def test_a_version_outside_the_declared_range_is_named(install: Install) -> None:
    install("engine-one", "0.9.0")
    install("engine-two", "2.5.0+cpu")
    requires = ("engine-one>=1.0; extra == 'train'", "engine-two>=2.4; extra == 'train'")
    install("trpo-deploy", requires=requires)
    with pytest.raises(MissingExtraError) as caught:
        extras.require("train")
    assert str(caught.value) == (
        'engine-one 0.9.0 does not match >=1.0; run: pip install "trpo-deploy[train]"'
    )


def test_nested_extras_are_followed(install: Install) -> None:
    install("simulator", requires=("physics; extra == 'mujoco'", "pictures; extra == 'other'"))
    install(
        "trpo-deploy",
        requires=(
            "simulator[mujoco]; extra == 'mujoco'",
            "trpo-deploy[all,mujoco]; extra == 'all'",
        ),
    )
    assert extras.find_problems("trpo-deploy", ["all"]) == (["physics"], [])


def test_packages_for_other_platforms_are_not_required(install: Install) -> None:
    install("trpo-deploy", requires=("absent; sys_platform == 'none' and extra == 'serve'",))
    extras.require("serve")


def test_an_unknown_extra_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match=r"unknown extra .trian.; expected one of .*train"):
        extras.require("trian")
