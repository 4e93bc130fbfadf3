"""The C of every kind of policy: no warning, no undefined behaviour, the golden rows' actions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.export.targets.c.folders import (
    SANITIZERS,
    WARNINGS,
    build_and_run,
    compiler,
    run,
    sources,
    write_folder,
)
from tests.export.targets.programs import KINDS


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_policy_is_right_in_gcc_clang_and_cpp(kind: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, verify=True, **KINDS[kind])
    # gcc needs -O1 for some of its warnings. clang finds undefined behaviour, faster than gcc.
    build_and_run(folder, compiler("gcc"), "-std=c99", "-O1", *WARNINGS)
    build_and_run(folder, compiler("clang"), "-std=c99", "-O0", *WARNINGS, *SANITIZERS)
    run([compiler("g++"), "-x", "c++", "-std=c++17", "-fsyntax-only", *WARNINGS, *sources(folder)])
