"""Compare a target's files with the ONNX file that they were made from."""

from __future__ import annotations

from typing import Any

import numpy as np

from trpo_deploy.export.certify.batches import is_finite, size_of, take
from trpo_deploy.export.certify.check import Check, json_number
from trpo_deploy.export.certify.engines import Engine, load_onnxruntime
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.spec.policy_spec import ACTION, Inputs
from trpo_deploy.spec.spaces import Array, BoxSpace, Space

TOLERANCE = 5e-6
"""Largest error of a continuous action, as a part of its range."""
_ROWS = 256


def action_scale(space: Space) -> Array:
    """The range of each number of a Box action; 1 where a bound is infinite.

    Errors are absolute below a range of 1, since the last layer computes numbers of order one.
    """
    assert isinstance(space, BoxSpace)
    with np.errstate(over="ignore"):
        size = space.high.astype(np.float64) - space.low
    return np.maximum(1.0, np.where(np.isfinite(size), size, 1.0))


def compare_with_file(engine: Engine, file: ExportedFile, rows: Inputs) -> Check:
    """Compare the actions for given and for random legal observations.

    Args:
        engine: The target's files.
        file: The ONNX file.
        rows: Observations by key; earlier frames are zeros.
    """
    spec = file.spec
    drawn = [spec.validate(each)[0] for each in _samples(file)]
    observations = {
        key: np.concatenate([rows[key], *(each[key] for each in drawn)])
        for key in spec.observation_spaces
    }
    for state in spec.states:
        observations[state.input.name] = state.zeros(size_of(observations))
    observations = dict(take(observations, is_finite(observations)))
    expected = load_onnxruntime(file.content, spec.inputs).run(observations)[ACTION]
    found = engine.run(observations)[ACTION]
    measured: dict[str, Any] = {"rows": len(expected)}
    if isinstance(spec.action_space, BoxSpace):
        error = np.abs(found.astype(np.float64) - expected) / action_scale(spec.action_space)
        measured["action_error_max"] = json_number(error.max(initial=0))
        passed = bool((error <= TOLERANCE).all())  # false for NaN
    else:
        measured["action_mismatches"] = int((found != expected).sum())
        passed = not measured["action_mismatches"]
    how = f"actions against onnxruntime's; tolerance {TOLERANCE:g} of the range; discrete: equal"
    return Check(f"policy.onnx, {engine.name}", passed, how, measured)


def _samples(file: ExportedFile) -> list[Any]:
    rng = np.random.default_rng(1)
    return [file.spec.sample_observation(rng) for _ in range(_ROWS)]
