"""The number of an output that is furthest from Stable-Baselines3, and its observation."""

from __future__ import annotations

from typing import Any

import numpy as np

from trpo_deploy.export.certify.check import json_number
from trpo_deploy.spec.codec import array_to_json
from trpo_deploy.spec.policy_spec import Inputs
from trpo_deploy.spec.spaces import Array, Json

MAX_NUMBERS = 4096
"""Numbers of an observation that is written to JSON."""


def numbers_of(batch: Inputs) -> int:
    """How many numbers one row has."""
    return sum(array[0].size for array in batch.values())


def element(name: str, shape: tuple[int, ...], index: int) -> str:
    """The name of one number of an array, such as ``obs[3]``.

    Args:
        name: Name of the array.
        shape: Shape of the array, without the batch axis.
        index: Position of the number in the flat array.
    """
    if not shape:
        return name
    return f"{name}{[int(each) for each in np.unravel_index(index, shape)]}"


def worst_case(
    name: str,
    found: Array,
    expected: Array,
    tolerance: Array,
    observations: Inputs,
) -> tuple[float, Json]:
    """Where a file is furthest from Stable-Baselines3, relative to the tolerance.

    Args:
        name: Name of the output.
        found: The file's values, ``(rows, ...)``.
        expected: SB3's values, ``(rows, n)``.
        tolerance: Largest error of each row, ``(rows,)``; infinite where there is no measure.
        observations: Raw observations, ``rows`` of them.

    Returns:
        The error in units of the tolerance, and a description for the certificate. The
        observation is left out if it has more than :data:`MAX_NUMBERS` numbers.
    """
    flat = found.reshape(expected.shape).astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.where(flat == expected, 0.0, np.abs(flat - expected))
        relative = np.nan_to_num(error / tolerance[:, None], nan=np.inf)
    relative[np.isinf(tolerance)] = 0.0
    row, column = np.unravel_index(int(relative.argmax()), relative.shape)
    case: dict[str, Any] = {
        "output": element(name, found.shape[1:], int(column)),
        "error": json_number(error[row, column]),
        "tolerance": json_number(tolerance[row]),
        "file": json_number(flat[row, column]),
        "sb3": json_number(expected[row, column]),
    }
    if numbers_of(observations) <= MAX_NUMBERS:
        case["observation"] = {
            each: array_to_json(array[row]) for each, array in observations.items()
        }
    return float(relative[row, column]), case
