"""The range of each number of an observation, beyond which a control loop does not use it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from trpo_deploy.errors import ControlError
from trpo_deploy.spec.policy_spec import NormalizerInfo, PolicySpec
from trpo_deploy.spec.spaces import Array, Space, bounds

MARGIN = 0.1
"""How far a number may exceed its bounds, as a part of their distance. Bounds of environments are
approximate: simulators exceed them."""

DEVIATIONS = 100
"""How many standard deviations a number without bounds may be away from the training's mean. The
normaliser clips at 10, so the policy knows nothing beyond."""

UNKNOWN = 1e6
"""Largest size of a number of which neither bounds nor statistics are known. It only refuses
garbage such as 1e30."""

_INFINITE = 1e37  # environments write the largest float32 for "no bound"
_MOVED = 10
"""A standard deviation below so many times the normaliser's smallest one is that of a number which
the training never changed. It says nothing about other values."""
_LARGEST = float(np.nextafter(np.finfo(np.float32).max, np.float32(0)))

Range = tuple[float, float]


def observation_ranges(
    spec: PolicySpec, stated: Mapping[str, Range]
) -> dict[str, tuple[Array, Array]]:
    """Smallest and largest allowed number of each key, in the shape of its array.

    Integers: the space's bounds. Other numbers: the stated range; else the space's bounds with
    :data:`MARGIN`; else the training's mean with :data:`DEVIATIONS`; else :data:`UNKNOWN`.

    Args:
        spec: The policy's spec.
        stated: Ranges by name, inclusive.

    Raises:
        ControlError: A name is unknown, belongs to two keys or to integers, or a range is empty.
    """
    placed = {name: _position(spec, name) for name in stated}
    ranges = {}
    for key, space in spec.observation_spaces.items():
        if space.dtype.kind == "f":
            low, high = _default(space, spec.normalizer, key)
            for name, (where, index) in placed.items():
                if where == key:
                    low[index], high[index] = _checked(name, stated[name])
            # Less than infinity, and than what a guard takes for infinity.
            low, high = np.maximum(low, -_LARGEST), np.minimum(high, _LARGEST)
            # A bound is in its range as float32 too.
            low = np.minimum(low, low.astype(space.dtype))
            high = np.maximum(high, high.astype(space.dtype))
        else:
            low, high = (each.astype(np.int64) for each in bounds(space))
        ranges[key] = low.reshape(space.shape), high.reshape(space.shape)
    return ranges


def _default(space: Space, normalizer: NormalizerInfo | None, key: str) -> tuple[Array, Array]:
    low, high = (each.astype(np.float64) for each in bounds(space))
    bounded = (low > -_INFINITE) & (high < _INFINITE)
    margin = MARGIN * np.subtract(high, low, out=np.zeros_like(low), where=bounded)
    middle, reach = np.zeros_like(low), np.full_like(low, UNKNOWN)
    if normalizer is not None and key in normalizer.mean and key in normalizer.std:
        mean, std = normalizer.mean[key].reshape(-1), normalizer.std[key].reshape(-1)
        moved = std > _MOVED * np.sqrt(normalizer.epsilon)
        middle, reach = np.where(moved, mean, 0), np.where(moved, DEVIATIONS * std, UNKNOWN)
    return (
        np.where(bounded, low - margin, middle - reach),
        np.where(bounded, high + margin, middle + reach),
    )


def _position(spec: PolicySpec, name: str) -> tuple[str, int]:
    """Key and index of a named number."""
    found = [
        (key, index)
        for key, components in spec.observation_components.items()
        for index, each in enumerate(components)
        if each.name == name
    ]
    if len(found) != 1:
        what = "does not have" if not found else "has under several keys"
        raise ControlError(f"observation_range names {name!r}, which the file {what}")
    space = spec.observation_spaces[found[0][0]]
    if space.dtype.kind != "f":
        raise ControlError(
            f"observation_range names {name!r}, whose bounds are fixed: {space.kind}"
        )
    return found[0]


def _checked(name: str, stated: Range) -> Range:
    try:
        low, high = map(float, stated)
    except (TypeError, ValueError) as error:
        raise ControlError(
            f"the range of {name!r} is {stated!r}, expected two numbers (low, high)"
        ) from error
    if not low <= high:  # also for NaN
        raise ControlError(f"the range of {name!r} is {stated!r}, expected low <= high")
    return low, high
