"""Policies of every kind as folders of C files, and compilers to build them with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.export.targets.programs import make
from trpo_deploy.export import TargetOptions, export_file

NAME = "pol"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1")


def write_folder(folder: Path, *, verify: bool = False, **kind: Any) -> Path:
    """Export a policy of :data:`tests.export.targets.programs.KINDS` to C."""
    onnx = make(folder / "model", **kind)
    export_file(onnx, TargetOptions("c", folder / "c", NAME), verify=verify)
    return folder / "c"


def compiler(name: str) -> str:
    """Path of a compiler, or skip; in CI, a skipped test fails."""
    command = shutil.which(name)
    if command is None:
        pytest.skip(f"needs {name}")
    return command


def build_and_run(folder: Path, command: str, *options: str) -> None:
    """Compile the golden rows as a program and check that it ends with 0."""
    program = folder.parent / f"test_{Path(command).name}"
    run([command, f"-D{NAME.upper()}_TEST_MAIN", *options, *sources(folder), "-o", program, "-lm"])
    run([program])


def sources(folder: Path) -> list[Path]:
    return [folder / f"{NAME}.c", folder / f"{NAME}_test.c"]


def run(command: list[Any], **keywords: Any) -> str:
    done = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, timeout=240, **keywords
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)
