"""The YAML file with names, units, control period and safe action that ``export --names`` takes.

::

    period: 0.05
    observation:
      obs:
        - {name: hip.position, unit: rad}
        - hip.velocity                    # the unit is unknown
    action:
      - {name: hip, unit: 150 N m}
    safe_action: [0.0]

Every entry may be missing or null, which says nothing about it.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.spec.components import (
    Component,
    ControlSpec,
    check_action_components,
    check_observation_components,
    checked_action,
    checked_period,
    number_of,
)
from trpo_deploy.spec.spaces import DiscreteSpace, Space, bounds

_ENTRIES = ("period", "observation", "action", "safe_action")
_MOST_LISTED = 1024
"""Larger arrays, such as images, are left out of a template."""


def read_names(
    path: Path, observation_spaces: Mapping[str, Space], action_space: Space
) -> ControlSpec:
    """Read a file with names.

    Args:
        path: The file.
        observation_spaces: The policy's, by key.
        action_space: The policy's.

    Raises:
        ConfigError: The file cannot be read, or does not fit the spaces.
    """
    value = read_yaml(path)
    try:
        return _control(value, observation_spaces, action_space)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def names_template(
    control: ControlSpec, observation_spaces: Mapping[str, Space], action_space: Space
) -> str:
    """A file with what is known, and null for everything else.

    Args:
        control: What is known.
        observation_spaces: The policy's, by key.
        action_space: The policy's.
    """
    lines = [
        "# Names, units, control period and safe action. null says nothing about an entry.",
        "# Edit this file, then: trpo-deploy export SOURCE --names FILE",
        "",
        f"period: {_yaml(control.period)}  # seconds between two actions",
        "",
        "observation:",
    ]
    for key, space in observation_spaces.items():
        lines += _observation_lines(key, control.observation_components.get(key, ()), space)
    lines += ["", "action:"]
    notes = (
        _values(action_space) if isinstance(action_space, DiscreteSpace) else _ranges(action_space)
    )
    lines += _component_lines("  ", control.action_components, notes)
    safe = None if control.safe_action is None else control.safe_action.tolist()
    lines += ["", f"safe_action: {_yaml(safe)}  # the action when nothing is known"]
    return "\n".join(lines) + "\n"


def _control(
    value: dict[str, Any], observation_spaces: Mapping[str, Space], action_space: Space
) -> ControlSpec:
    unknown = [key for key in value if key not in _ENTRIES]
    if unknown:
        raise ValueError(
            f"unknown entry {reprlib.repr(unknown[0])}; expected {', '.join(_ENTRIES)}"
        )
    observation = value.get("observation")
    if not isinstance(observation, (dict, type(None))):
        raise ValueError("observation is not a mapping of observation keys to lists of names")
    observations = {}
    for key, listed in (observation or {}).items():
        components = _components(listed, f"the observation {reprlib.repr(key)}")
        if components:
            check_observation_components(components, key, observation_spaces)
            observations[key] = components
    actions = _components(value.get("action"), "the action")
    if actions:
        check_action_components(actions, action_space)
    period, safe = value.get("period"), value.get("safe_action")
    return ControlSpec(
        observations,
        actions,
        None if period is None else checked_period(period),
        None if safe is None else checked_action(safe, action_space),
    )


def _components(listed: object, where: str) -> tuple[Component, ...]:
    """The components of a list; none if the list is missing or says nothing."""
    if listed is None:
        return ()
    if not isinstance(listed, list):
        raise ValueError(f"{where} is {reprlib.repr(listed)}, expected a list of names")
    places = [f"{where}, number {index}" for index in range(len(listed))]
    pairs = [_pair(item, place) for item, place in zip(listed, places, strict=True)]
    if all(pair == (None, None) for pair in pairs):
        return ()
    return tuple(_component(*pair, place) for pair, place in zip(pairs, places, strict=True))


def _component(name: Any, unit: Any, place: str) -> Component:
    try:
        return Component(name, unit)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _pair(item: object, place: str) -> tuple[Any, Any]:
    """The name and unit of an item of a list."""
    if not isinstance(item, dict):
        return item, None
    unknown = [key for key in item if key not in ("name", "unit")]
    if unknown:
        raise ValueError(f"{place}: unknown entry {reprlib.repr(unknown[0])}; expected name, unit")
    return item.get("name"), item.get("unit")


def _observation_lines(key: str, components: tuple[Component, ...], space: Space) -> Iterator[str]:
    if number_of(space) > _MOST_LISTED and not components:
        yield f"  # {_yaml(key)} has {number_of(space)} numbers, which are not listed"
        return
    yield f"  {_yaml(key)}:"
    yield from _component_lines("    ", components, _ranges(space))


def _component_lines(
    indent: str, components: tuple[Component, ...], notes: list[str]
) -> Iterator[str]:
    known = components or (None,) * len(notes)
    for each, note in zip(known, notes, strict=True):
        name, unit = (None, None) if each is None else (each.name, each.unit)
        yield f"{indent}- {{name: {_yaml(name)}, unit: {_yaml(unit)}}}  # {note}"


def _ranges(space: Space) -> list[str]:
    low, high = (each.tolist() for each in bounds(space))
    return [f"{first:g} to {last:g}" for first, last in zip(low, high, strict=True)]


def _values(space: DiscreteSpace) -> list[str]:
    return [f"action {space.start + index}" for index in range(space.n)]


def _yaml(value: Any) -> str:
    """A value in YAML's flow style, which JSON is, on one line."""
    return json.dumps(value, ensure_ascii=False)
