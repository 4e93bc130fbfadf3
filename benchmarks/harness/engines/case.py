"""A case: a policy's file, rows of inputs in batches, and what onnxruntime computes for them.

Its folder has ``policy.onnx`` and ``case.json``, which describes the tensors and names the number
of rows of each batch. Tensor ``i`` of batch ``b`` is ``b.input.i``, as raw little-endian numbers.
An engine's process adds ``b.output.i``, as float64, and ``found.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.targets.agreement import TOLERANCE, action_scale
from trpo_deploy.spec.policy_spec import ACTION, PolicySpec
from trpo_deploy.spec.spaces import BoxSpace

BATCHES = (7, 7, 1, 1)
"""Rows of each batch."""
FOUND = "found.json"
"""Written by an engine's process when a case is done."""


@dataclass(frozen=True)
class Cell:
    """What an engine did with one policy."""

    state: str
    """One of :data:`STATES`."""
    error: float = 0.0
    """Largest error of a float: actions in units of their range, others of max(1, size)."""
    message: str = ""
    """Why it is not equal, in one line."""


STATES = ("equal", "refuses", "wrong", "not run")
"""From best to worst: an engine that refuses a file is better than one that is silently wrong."""


@dataclass(frozen=True)
class Case:
    """A folder with a policy and the expected outputs."""

    folder: Path
    spec: PolicySpec
    expected: tuple[dict[str, Any], ...]
    """Outputs by name, for each batch."""

    @classmethod
    def prepare(cls, onnx: Path) -> Case:
        """Write the inputs beside a policy and run them in this environment's onnxruntime."""
        spec = ExportedFile.parse(onnx.read_bytes()).spec
        folder = onnx.parent
        session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_outputs()]
        expected = []
        for index, inputs in enumerate(batches(spec)):
            for number, values in enumerate(inputs.values()):
                values.tofile(folder / f"{index}.input.{number}")
            expected.append(dict(zip(names, session.run(names, inputs), strict=True)))
        described = {
            "inputs": [vars(each) for each in spec.inputs],
            "outputs": [
                {"name": name, "dtype": str(each.dtype), "shape": each.shape[1:]}
                for name, each in expected[0].items()
            ],
            "batches": BATCHES,
        }
        (folder / "case.json").write_text(json.dumps(described))
        return cls(folder, spec, tuple(expected))

    def compare(self) -> Cell:
        """Read what an engine's process wrote, and compare it with what is expected."""
        found = json.loads((self.folder / FOUND).read_text())
        if "error" in found:
            return Cell("refuses", message=found["error"])
        worst, problems = 0.0, []
        for index, batch in enumerate(self.expected):
            for number, (name, expected) in enumerate(batch.items()):
                if name not in found["types"]:  # our targets give some only
                    continue
                values = np.fromfile(self.folder / f"{index}.output.{number}", "<f8")
                if values.size != expected.size:
                    problems.append(f"{name}: {values.size} numbers, not {expected.size}")
                    continue
                error = self._errors(name, values.reshape(expected.shape), expected)
                if not (error <= TOLERANCE).all():  # also for NaN
                    problems.append(_problem(name, error, expected.dtype.kind == "f"))
                worst = max(worst, float(error.max(initial=0)))
        if problems:
            return Cell("wrong", message="; ".join(dict.fromkeys(problems)))
        return Cell("equal", worst)

    def _errors(self, name: str, found: Any, expected: Any) -> Any:
        """Errors of all numbers, in the units of :attr:`Cell.error`; 0 or 1 for integers."""
        if expected.dtype.kind != "f":
            return (found != expected).astype(np.float64)
        difference = np.abs(found - expected.astype(np.float64))
        if name == ACTION and isinstance(self.spec.action_space, BoxSpace):
            return difference / action_scale(self.spec.action_space)
        return difference / np.maximum(1.0, np.abs(expected))


def _problem(name: str, error: Any, is_float: bool) -> str:
    wrong = ~(error <= TOLERANCE).reshape(len(error), -1).all(axis=1)
    largest = f", error {np.nanmax(error, initial=0):.0e}" if is_float else ""
    largest = ", not a number" if np.isnan(error).any() else largest
    return f"{name}: {wrong.sum()} of {len(error)} rows of a batch{largest}"


def batches(spec: PolicySpec) -> Iterator[dict[str, Any]]:
    """Random legal inputs by name; the last row of a guarded policy has NaN where it can."""
    rng = np.random.default_rng(0)
    for rows in BATCHES:
        drawn = [spec.validate(spec.sample_observation(rng))[0] for _ in range(rows)]
        inputs = {}
        for each in spec.inputs:
            if each.key in drawn[0]:
                values = np.concatenate([row[each.key] for row in drawn]).astype(each.dtype)
                if spec.guard is not None and values.dtype.kind == "f":
                    values[-1].flat[0] = np.nan
            else:  # an earlier frame
                values = rng.integers(0, 2, (rows, *each.shape)).astype(each.dtype)
            inputs[each.name] = values
        yield inputs
