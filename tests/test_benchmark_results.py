"""The published returns come out of the archived runs."""

from __future__ import annotations

import csv
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from trpo_deploy.train.run.benchmark.runner import MUJOCO, benchmark

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "mujoco"
TEN_SEEDS = (
    *("HalfCheetah-v4", "HalfCheetah-v5", "Hopper-v4", "Hopper-v5"),
    *("Swimmer-v4", "Swimmer-v5", "Walker2d-v4", "Walker2d-v5"),
    *("Ant-v4", "Ant-v5", "Humanoid-v4", "Humanoid-v5"),
)
"""Tasks with all ten seeds of the benchmark; the others have earlier ones."""


def test_the_plan_for_robots_in_the_documentation_is_the_measured_one() -> None:
    measured = (RESULTS.parent / "serve_robots.md").read_text()
    documented = (ROOT / "docs" / "scale.md").read_text()
    plan = measured[measured.index("| robots | 10 actions/s each |") :]
    assert plan in documented
    rows = re.findall(r"^\| 25 \| (\w+) \| 1 \|(?:[^|]*\|){3} (\d+) \|", measured, re.MULTILINE)
    names = {"HTTP": "17 floats as JSON, few robots", "WebSocket": "a WebSocket frame of 17 floats"}
    assert [transport for transport, _ in rows] == [*names]
    for transport, micros in rows:
        assert f"| {names[transport]} | {micros} µs |" in documented


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A folder with the runs of the archive."""
    with tarfile.open(RESULTS / "runs.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def pack(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "pack-runs"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_archive_gives_the_published_tables_without_training(unpacked: Path) -> None:
    before = {path: path.read_bytes() for path in unpacked.rglob("*") if path.is_file()}
    benchmark(TEN_SEEDS, 10, 1_000_000, unpacked, processes=1, report=lambda _: None)
    for name in ("table.md", "table.csv", "table.tex"):
        assert (unpacked / name).read_bytes() == (RESULTS / name).read_bytes(), name
    assert {path: path.read_bytes() for path in before} == before
    assert (unpacked / "curves.png").is_file()


def test_the_returns_in_the_documentation_come_from_the_evaluations() -> None:
    """Mean, deviation over seeds and Student's 95 % interval of the last evaluations."""
    last: dict[str, dict[str, tuple[int, float]]] = {}
    with (RESULTS / "evaluations.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["group"] == "runs":
                seeds = last.setdefault(row["task"], {})
                point = int(row["timesteps"]), float(row["mean"])
                seeds[row["seed"]] = max(point, seeds.get(row["seed"], point))
    text = (ROOT / "docs" / "training.md").read_text()
    documented = re.findall(
        r"^\| (\S+) \| (\d+) \| (\d+) ± (\d+) \| (\d+) to (\d+) \|", text, re.MULTILINE
    )
    assert [task for task, *_ in documented] == list(MUJOCO)
    for task, *numbers in documented:
        returns = np.array([mean for _, mean in last[task].values()])
        half = stats.t.ppf(0.975, len(returns) - 1) * stats.sem(returns)
        mean = returns.mean()
        found = len(returns), mean, returns.std(), mean - half, mean + half
        assert list(map(int, numbers)) == [round(each) for each in found], task


def test_packing_the_runs_again_gives_the_same_files(unpacked: Path) -> None:
    done = pack(unpacked)
    assert done.returncode == 0, done.stderr
    # Not the compressed bytes, which may differ between versions of liblzma.
    again, tracked = (
        lzma.decompress((folder / "runs.tar.xz").read_bytes()) for folder in (unpacked, RESULTS)
    )
    assert again == tracked
    assert (unpacked / "evaluations.csv").read_text() == (RESULTS / "evaluations.csv").read_text()


def test_packing_never_drops_runs_that_are_not_unpacked(unpacked: Path) -> None:
    shutil.copy(RESULTS / "runs.tar.xz", unpacked)
    shutil.rmtree(unpacked / "earlier")
    done = pack(unpacked)
    assert done.returncode == 1
    assert "runs that are not in" in done.stderr
    assert (unpacked / "runs.tar.xz").read_bytes() == (RESULTS / "runs.tar.xz").read_bytes()
