"""The table of engines: the page comes from the results, and a run tells right from wrong."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = Path(os.environ.get("TRPO_DEPLOY_ENGINES", ROOT / "build" / "engines"))
KIND = "guarded"
"""A Dict with an image, discrete and continuous numbers, and NaN in one row of each batch."""
WRONG = """
import pathlib, subprocess, sys
import numpy
worker, case = sys.argv[1:]
subprocess.run([sys.executable, worker, "onnx", case], check=True)
for path in pathlib.Path(case).glob("1.output.0"):
    (numpy.fromfile(path) + 1e-3).tofile(path)
"""


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the table."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: import_module(f"harness.engines.{name}")


def measure(harness: Any, folder: Path) -> dict[str, Any]:
    """Run one kind of policy in all engines of the table; the cells by engine."""
    case = harness("case").Case.prepare(harness("kinds").write(KIND, folder / "policy"))
    results = harness("run").measure(harness("table").ENGINES, {KIND: case})
    cells: dict[str, Any] = results.cells[KIND]
    return cells


def only(monkeypatch: pytest.MonkeyPatch, harness: Any, engines: Mapping[str, Any]) -> None:
    """Let the table have these engines only."""
    table = harness("table").ENGINES
    for name in list(table):
        monkeypatch.delitem(table, name)
    for name, engine in engines.items():
        monkeypatch.setitem(table, name, engine)


def test_the_page_comes_from_the_committed_results(harness: Any) -> None:
    results = harness("results").Results.read(ROOT / "benchmarks" / "results" / "engines.json")
    engines = list(harness("table").ENGINES)
    page = (ROOT / "docs" / "engines.md").read_text()
    assert harness("page").page(results, engines) == page
    results.cells[KIND]["tract"] = harness("case").Cell("wrong", message="action")
    assert harness("page").page(results, engines) != page


def test_every_kind_was_run_in_every_engine(harness: Any) -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "engines.json").read_text())
    for kind, row in found["cells"].items():
        assert set(row) == set(harness("table").ENGINES), kind
    assert [kind for kinds in found["groups"].values() for kind in kinds]


@pytest.mark.slow
def test_engines_at_hand_are_equal(
    harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not PACKAGES.is_dir():
        pytest.skip("needs OpenVINO, tract and OpenCV (scripts/install-engines)")
    table = harness("table")
    here = ("onnx reference", "our C (gcc)", "our C (clang)", "our JavaScript (node)")
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(PACKAGES)])}
    only(
        monkeypatch,
        harness,
        {name: table.ENGINES[name] for name in here}
        | {
            name: table.Engine(table.here(name).install, path)
            for name in ("openvino", "tract", "opencv")
        },
    )
    cells = measure(harness, tmp_path)
    assert {name: cell.message for name, cell in cells.items() if cell.state != "equal"} == {}
    assert len(cells) == 7
    assert all(cell.error <= 5e-6 for cell in cells.values())


@pytest.mark.slow
def test_engines_that_fail_are_told_apart(
    harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = harness("table")
    worker = table.HERE / "run_cases.py"
    (tmp_path / "wrong.py").write_text(WRONG)
    path = {"PYTHONPATH": str(ROOT)}
    only(
        monkeypatch,
        harness,
        {
            "wrong": table.Engine(lambda _: (sys.executable, tmp_path / "wrong.py", worker), path),
            "crashes": table.Engine(lambda _: (sys.executable, "-c", "exit('no memory')"), path),
            "missing": table.here("onnx", "no-such-program"),
        },
    )
    cells = measure(harness, tmp_path)
    assert {name: cell.state for name, cell in cells.items()} == {
        "wrong": "wrong",
        "crashes": "refuses",
        "missing": "not run",
    }
    assert "action: 7 of 7 rows of a batch" in cells["wrong"].message
    assert cells["crashes"].message == "exit code 1: no memory"
    assert cells["missing"].message == "no no-such-program on this machine"


def test_only_cells_that_become_worse_fail_the_check(harness: Any) -> None:
    cell, results = harness("case").Cell, harness("results")

    def table(**states: str) -> Any:
        return results.Results(cells={KIND: {name: cell(each) for name, each in states.items()}})

    before = table(a="equal", b="refuses", c="wrong", d="equal", e="equal")
    now = table(a="equal", b="equal", c="refuses", d="not run", e="wrong", new="wrong")
    assert [line.partition(":")[0].split()[1] for line in results.worse(before, now)] == ["d", "e"]
    assert [*results.worse(table(a="refuses"), table(a="wrong"))]
