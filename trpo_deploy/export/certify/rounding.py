"""What it costs that a file takes float32 where the environment gives float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from trpo_deploy.export.certify.batches import as_inputs, is_finite, take
from trpo_deploy.export.certify.check import Check, json_number
from trpo_deploy.export.certify.tolerance import reference_values_or_nan
from trpo_deploy.export.certify.trained_policy import TrainedPolicy
from trpo_deploy.export.certify.worst_case import element
from trpo_deploy.spec.policy_spec import ACTION, OBS, Inputs, PolicySpec
from trpo_deploy.spec.spaces import Array, BoxSpace, Space

NEGLIGIBLE = 1e-4
"""A change of an action by less than this part of its range needs no warning."""


def check_rounding(
    name: str, observations: Inputs, spec: PolicySpec, policy: TrainedPolicy
) -> Check | None:
    """Measure how far rounding the observations moves SB3's own actions.

    Args:
        name: Name of the set of observations.
        observations: Raw observations, as the environment gives them.
        spec: Spec of the file, which has the dtypes of its inputs.
        policy: The trained policy.

    Returns:
        A check that always passes, with a warning if the change is not negligible; ``None`` if the
        file takes the observations as they are.
    """
    rounded = as_inputs(observations, spec.inputs)
    if all(array.dtype == rounded[each].dtype for each, array in observations.items()):
        return None
    reference = policy.reference
    with np.errstate(all="ignore"):
        exact, moved = (
            reference_values_or_nan(reference, batch, (ACTION,))[ACTION]
            for batch in (observations, rounded)
        )
    defined = is_finite({"exact": exact, "moved": moved})
    change = _relative_change(exact[defined], moved[defined], policy.actor.action_space)
    measured: dict[str, Any] = {"action_change_max": json_number(change.max(initial=0))}
    warning = ""
    if change.size and change.max() > NEGLIGIBLE:
        row, column = np.unravel_index(int(change.argmax()), change.shape)
        pair = (take(take(each, defined), [int(row)]) for each in (observations, rounded))
        action = element(ACTION, policy.actor.action_space.shape, int(column))
        cause = _most_changed(*(reference.network_observation(each) for each in pair))
        measured |= {"action": action, "observation": cause}
        warning = (
            f"rounding observations to float32 changes {action} by up to "
            f"{change.max():.1e} of its range ({name}), because of {cause}; --float64-input avoids "
            "this"
        )
    how = (
        "SB3's actions for float64 observations and for the same rounded to float32; the change is "
        "relative to the action's range, or to 1 without bounds, and 1 for another discrete action"
    )
    return Check("float32 input", True, how, measured, warning=warning)


def _relative_change(exact: Array, moved: Array, space: Space) -> Array:
    """Change of each number of an action, ``(rows, n)``."""
    if not isinstance(space, BoxSpace):
        return np.asarray(exact != moved, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        width = (space.high.astype(np.float64) - space.low).flatten()
    width = np.where(np.isfinite(width) & (width > 0), width, 1.0)
    return np.asarray(np.abs(exact - moved) / width)


def _most_changed(exact: Any, rounded: Any) -> str:
    """The number of the network's input that rounding changes most."""
    pairs = exact.items() if isinstance(exact, dict) else [(OBS, exact)]
    changes = {}
    for key, array in pairs:
        other = rounded[key] if isinstance(rounded, dict) else rounded
        change = np.abs(np.asarray(array, np.float64) - other)[0]
        changes[element(key, change.shape, int(change.argmax()))] = change.max(initial=0)
    return max(changes, key=lambda each: float(changes[each]))
