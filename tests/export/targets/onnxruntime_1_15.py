"""Run files in onnxruntime 1.15.1, the oldest that game engines use, beside the installed one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trpo_deploy.spec.policy_spec import Inputs

_DEFAULT = Path(__file__).parents[3] / "build" / "onnxruntime-1.15.1"
_RUN = """
import sys
import numpy
import onnxruntime
assert onnxruntime.__version__ == "1.15.1", onnxruntime.__version__
model, inputs, outputs = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
names = [each.name for each in session.get_outputs()]
with numpy.load(inputs) as arrays:
    found = session.run(names, {name: arrays[name] for name in arrays.files})
numpy.savez(outputs, **dict(zip(names, found)))
"""


def run_in_old_onnxruntime(model: Path, inputs: Inputs, folder: Path) -> Inputs:
    """All outputs of a file; skips where ``scripts/install-onnxruntime-1.15`` was not run."""
    packages = Path(os.environ.get("TRPO_DEPLOY_ONNXRUNTIME_1_15", _DEFAULT))
    if not packages.is_dir():
        pytest.skip("needs onnxruntime 1.15.1 (scripts/install-onnxruntime-1.15)")
    arrays: dict[str, Any] = {**inputs}
    np.savez(folder / "inputs.npz", **arrays)
    subprocess.run(
        [sys.executable, "-c", _RUN, model, folder / "inputs.npz", folder / "outputs.npz"],
        check=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(packages)},
        cwd=folder,
    )
    with np.load(folder / "outputs.npz") as found:
        return {name: found[name] for name in found.files}
