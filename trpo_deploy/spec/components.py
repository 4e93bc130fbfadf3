"""Names and units of the numbers of observations and actions, and when and how to act.

Shapes and dtypes say how a file is called. Beyond these, a robot has to know which joint a number
belongs to, its unit, the period of the control loop, and what to do when nothing is known.
"""

from __future__ import annotations

import math
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trpo_deploy.errors import ObservationError
from trpo_deploy.spec.codec import Array, Json
from trpo_deploy.spec.spaces import BoxSpace, DiscreteSpace, Space

LONGEST_NAME = 200
"""Largest number of characters of a name or unit."""


@dataclass(frozen=True)
class Component:
    """One number of an observation or action; of a discrete action, one of its values.

    Raises:
        ValueError: The name or unit is not one line of printable text without outer spaces.
    """

    name: str
    unit: str | None = None
    """Such as ``rad/s``; ``"1"`` if it has no dimension, ``None`` if unknown. It may have a factor:
    in ``150 N m``, an action of 0.5 is 75 N m."""

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("unit", self.unit)):
            if what == "unit" and text is None:
                continue
            if not isinstance(text, str) or not text:
                raise ValueError(f"the {what} {reprlib.repr(text)} is not a text")
            if not text.isprintable() or text != text.strip() or len(text) > LONGEST_NAME:
                raise ValueError(
                    f"the {what} {reprlib.repr(text)} is not one line of printable text of at "
                    f"most {LONGEST_NAME} characters, without spaces around it"
                )


@dataclass(frozen=True, eq=False)
class ControlSpec:
    """What a control loop has to know beyond shapes and dtypes; what is missing is unknown."""

    observation_components: Mapping[str, tuple[Component, ...]] = field(default_factory=dict)
    """By observation key; in the order of that key's array, last axis fastest."""
    action_components: tuple[Component, ...] = ()
    """In the order of the action's array. Of a discrete action, a name for each value."""
    period: float | None = None
    """Seconds between two actions."""
    safe_action: Array | None = None
    """The action when nothing is known, of the action's dtype and shape."""

    def updated(self, other: ControlSpec) -> ControlSpec:
        """This control spec, with what another one knows in place of its own."""
        return ControlSpec(
            {**self.observation_components, **other.observation_components},
            other.action_components or self.action_components,
            self.period if other.period is None else other.period,
            self.safe_action if other.safe_action is None else other.safe_action,
        )

    def to_json(self) -> Json:
        """What is known, as JSON values."""
        value: Json = {}
        if self.observation_components:
            value["observation_components"] = {
                key: _components_to_json(each) for key, each in self.observation_components.items()
            }
        if self.action_components:
            value["action_components"] = _components_to_json(self.action_components)
        if self.period is not None:
            value["period"] = self.period
        if self.safe_action is not None:
            value["safe_action"] = self.safe_action.tolist()
        return value


def control_from_json(
    value: Json, observation_spaces: Mapping[str, Space], action_space: Space
) -> ControlSpec:
    """Read what :meth:`ControlSpec.to_json` wrote; missing entries are unknown.

    Raises:
        KeyError: A mapping of names lacks an entry.
        TypeError: An entry has the wrong type.
        ValueError: A number or name is wrong, or the names do not fit the spaces.
    """
    observations = {
        key: _components_from_json(item)
        for key, item in value.get("observation_components", {}).items()
    }
    actions = _components_from_json(value.get("action_components", {"names": [], "units": []}))
    for key, components in observations.items():
        check_observation_components(components, key, observation_spaces)
    if actions:
        check_action_components(actions, action_space)
    period, action = value.get("period"), value.get("safe_action")
    return ControlSpec(
        observations,
        actions,
        None if period is None else checked_period(period),
        None if action is None else checked_action(action, action_space),
    )


def check_observation_components(
    components: Sequence[Component], key: str, spaces: Mapping[str, Space]
) -> None:
    """Check the components of an observation key.

    Raises:
        ValueError: There is no such key, there are too many or too few, or two have one name.
    """
    if key not in spaces:
        raise ValueError(
            f"the observation {reprlib.repr(key)} does not exist; expected {', '.join(spaces)}"
        )
    _check_names(components, f"the observation {key!r}", number_of(spaces[key]))


def check_action_components(components: Sequence[Component], space: Space) -> None:
    """Check the components of an action.

    Raises:
        ValueError: There are too many or too few, or two have the same name.
    """
    # A Discrete action has a name for each value.
    expected = space.n if isinstance(space, DiscreteSpace) else number_of(space)
    _check_names(components, "the action", expected)


def number_of(space: Space) -> int:
    """How many numbers an array of a space has."""
    return math.prod(space.shape)


def checked_period(value: object) -> float:
    """A control period in seconds.

    Raises:
        ValueError: It is not a positive, finite number.
    """
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        with suppress(OverflowError):  # an integer beyond float64
            seconds = float(value)
            if 0 < seconds < math.inf:
                return seconds
    raise ValueError(f"the period is {reprlib.repr(value)}, expected a positive number of seconds")


def periods_differ(one: float | None, other: float | None) -> bool:
    """Whether two control periods are known and differ by more than their rounding."""
    return one is not None and other is not None and not math.isclose(one, other)


def checked_action(value: object, space: Space) -> Array:
    """A safe action, as an array of the space's dtype and shape.

    Raises:
        ValueError: It is not in the space.
    """
    try:
        action = space.check(value, "action")
    except ObservationError as error:
        is_array = error.kind in ("shape", "ragged", "dtype")
        expected = f"{space.dtype} of shape {space.shape}" if is_array else error.expected
        raise ValueError(f"the safe action is {error.received}, expected {expected}") from error
    if action.shape != space.shape:  # a batch
        raise ValueError(f"the safe action is shape {action.shape}, expected shape {space.shape}")
    if not isinstance(space, BoxSpace):
        return action
    with np.errstate(over="ignore"):  # a float64 bound beyond float32 becomes infinite
        low, high = space.low.astype(space.dtype), space.high.astype(space.dtype)
    wrong = (action < low) | (action > high)
    if wrong.any():
        raise ValueError(
            f"the safe action contains {action[wrong][0]}, expected numbers in "
            f"[{low[wrong][0]}, {high[wrong][0]}]"
        )
    return np.clip(action, *space.inner_bounds)  # a bound may be rounded out of the space


def _check_names(components: Sequence[Component], where: str, expected: int) -> None:
    if len(components) != expected:
        raise ValueError(f"{where} needs {expected} names, received {len(components)}")
    (name, count), *_ = Counter(each.name for each in components).most_common(1)
    if count > 1:
        raise ValueError(f"{where} has the name {name!r} twice; names must differ")


def _components_to_json(components: Sequence[Component]) -> Json:
    return {
        "names": [each.name for each in components],
        "units": [each.unit for each in components],
    }


def _components_from_json(value: Any) -> tuple[Component, ...]:
    pairs = zip(value["names"], value["units"], strict=True)
    return tuple(Component(name, unit) for name, unit in pairs)
