"""Load LEAPP descriptions with LEAPP's own loader."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trpo_deploy.spec.policy_spec import Inputs

_DEFAULT = Path(__file__).parents[4] / "build" / "leapp-0.7.2"
_RUN = """
import pathlib
import sys
import traceback
import leapp
import numpy
import torch
assert leapp.__version__ == "0.7.2", leapp.__version__
for folder in map(pathlib.Path, sys.argv[1:]):
    try:
        graph = leapp.InferenceManager(str(next(folder.glob("*.yaml"))))
        with numpy.load(folder / "inputs.npz") as arrays:
            feeds = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        assert sorted(graph.inputs) == sorted(feeds), graph.inputs
        steps = []
        for step in range(len(next(iter(feeds.values())))):
            found = graph({name: rows[step : step + 1] for name, rows in feeds.items()})
            steps.append({name: found[name].numpy() for name in graph.outputs})
        rows = {name: numpy.concatenate([each[name] for each in steps]) for name in graph.outputs}
        numpy.savez(folder / "outputs.npz", **rows)
    except Exception:
        (folder / "error.txt").write_text(traceback.format_exc())
"""


def run_in_leapp(episodes: Mapping[Path, Inputs]) -> None:
    """Run one episode through each description; skips without ``scripts/install-leapp``.

    One process runs all, since it takes seconds to import torch and LEAPP.

    Args:
        episodes: Folder of the description -> observations by input name, ``(rows, *shape)``.
    """
    packages = Path(os.environ.get("TRPO_DEPLOY_LEAPP", _DEFAULT))
    if not packages.is_dir():
        pytest.skip("needs LEAPP 0.7.2 (scripts/install-leapp)")
    for folder, observations in episodes.items():
        arrays: dict[str, Any] = {f"policy/{name}": each for name, each in observations.items()}
        np.savez(folder / "inputs.npz", **arrays)
    subprocess.run(
        [sys.executable, "-c", _RUN, *episodes],
        check=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(packages)},
    )


def outputs_of(folder: Path) -> Inputs:
    """All outputs of a description that :func:`run_in_leapp` ran."""
    error = folder / "error.txt"
    assert not error.exists(), error.read_text()
    with np.load(folder / "outputs.npz") as found:
        return {name.removeprefix("policy/"): found[name] for name in found.files}
