"""Load LEAPP descriptions with LEAPP's own loader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trpo_deploy.spec.policy_spec import Inputs

_DEFAULT = Path(__file__).parents[4] / "build" / "leapp-0.7.2"
_RUN = """
import sys
import leapp
import numpy
import torch
assert leapp.__version__ == "0.7.2", leapp.__version__
description, inputs, outputs = sys.argv[1:]
graph = leapp.InferenceManager(description)
with numpy.load(inputs) as arrays:
    feeds = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
assert sorted(graph.inputs) == sorted(feeds), graph.inputs
steps = []
for step in range(len(next(iter(feeds.values())))):
    found = graph({name: rows[step : step + 1] for name, rows in feeds.items()})
    steps.append({name: found[name].numpy() for name in graph.outputs})
rows = {name: numpy.concatenate([each[name] for each in steps]) for name in graph.outputs}
numpy.savez(outputs, **rows)
"""


def run_in_leapp(description: Path, observations: Inputs, folder: Path) -> Inputs:
    """All outputs for the rows of one episode; skips where ``scripts/install-leapp`` was not run.

    Args:
        description: The YAML file.
        observations: By input name, ``(rows, *shape)``.
        folder: For files in between.
    """
    packages = Path(os.environ.get("TRPO_DEPLOY_LEAPP", _DEFAULT))
    if not packages.is_dir():
        pytest.skip("needs LEAPP 0.7.2 (scripts/install-leapp)")
    arrays: dict[str, Any] = {f"policy/{name}": each for name, each in observations.items()}
    np.savez(folder / "inputs.npz", **arrays)
    done = subprocess.run(
        [sys.executable, "-c", _RUN, description, folder / "inputs.npz", folder / "outputs.npz"],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(packages)},
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "outputs.npz") as found:
        return {name.removeprefix("policy/"): found[name] for name in found.files}
