"""What an environment or wrapper tells about its observations and actions by its attributes."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from trpo_deploy.spec.components import (
    Component,
    ControlSpec,
    check_action_components,
    check_observation_components,
    checked_action,
    checked_period,
)
from trpo_deploy.spec.policy_spec import OBS
from trpo_deploy.spec.spaces import Space

ATTRIBUTES = (
    "observation_names",
    "observation_units",
    "action_names",
    "action_units",
    "control_period",
    "safe_action",
)
"""Names and units are sequences of text in the order of the array, last axis fastest; of a Discrete
action, the names of its values. For a Dict they are mappings of these by key. A unit may be
``None``. ``control_period`` is in seconds. ``safe_action`` is what ``step`` takes.
"""


def declared_control(
    env: object,
    found: ControlSpec,
    observation_spaces: Mapping[str, Space],
    action_space: Space | None,
) -> ControlSpec:
    """What the attributes of an environment or wrapper tell, but not those of what it wraps.

    Args:
        env: The environment or wrapper.
        found: What is known without the attributes; units without names belong to its names.
        observation_spaces: Of the environment, by key.
        action_space: Of the environment; ``None`` if a spec cannot have it.

    Raises:
        TypeError: An attribute has the wrong type.
        ValueError: An attribute does not fit the spaces.
    """
    # getattr alone would also find what a wrapper passes on from inside.
    told = {
        name: getattr(env, name)
        for name in ATTRIBUTES
        if inspect.getattr_static(env, name, None) is not None
    }
    names, units = told.get("observation_names"), told.get("observation_units")
    observations = {}
    for key in _keys(names, units):
        components = _components(
            _of_key(names, key), _of_key(units, key), found.observation_components.get(key, ())
        )
        check_observation_components(components, key, observation_spaces)
        observations[key] = components
    actions: tuple[Component, ...] = ()
    safe = None
    if action_space is not None:
        names, units = told.get("action_names"), told.get("action_units")
        if names is not None or units is not None:
            actions = _components(names, units, found.action_components)
            check_action_components(actions, action_space)
        if "safe_action" in told:
            safe = checked_action(told["safe_action"], action_space)
    period = told.get("control_period")
    return ControlSpec(
        observations, actions, None if period is None else checked_period(period), safe
    )


def _keys(names: Any, units: Any) -> list[str]:
    """The observation keys that either attribute tells something about."""
    told = [each for each in (names, units) if each is not None]
    return list(dict.fromkeys(k for each in told for k in (each if _is_by_key(each) else [OBS])))


def _of_key(attribute: Any, key: str) -> Any:
    return attribute.get(key) if _is_by_key(attribute) else attribute


def _is_by_key(attribute: Any) -> bool:
    return isinstance(attribute, Mapping)


def _components(
    names: Iterable[str] | None,
    units: Iterable[str | None] | None,
    found: tuple[Component, ...],
) -> tuple[Component, ...]:
    for each in (names, units):
        if isinstance(each, str):
            raise TypeError(f"{reprlib.repr(each)} is one text, expected a sequence")
    listed = [each.name for each in found] if names is None else list(names)
    if units is None:
        return tuple(Component(name) for name in listed)
    units = list(units)
    if len(units) != len(listed):
        raise ValueError(f"there are {len(units)} units and {len(listed)} names")
    return tuple(Component(*pair) for pair in zip(listed, units, strict=True))
