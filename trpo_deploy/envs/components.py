"""Names, units, period and safe action of an environment, as far as they can be found.

- Gymnasium's MuJoCo environments tell them by their models (:mod:`~.mujoco_components`), classic
  control and Box2D by a table (:mod:`~.components_by_class`).
- Each wrapper keeps, changes or drops them (:mod:`~.wrapped_components`).
- Attributes of an environment or wrapper win (:mod:`~.declared_components`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeAlias

import gymnasium

from trpo_deploy.envs.components_by_class import control_by_class
from trpo_deploy.envs.declared_components import declared_control
from trpo_deploy.envs.environment import FAILURES
from trpo_deploy.envs.known_wrappers import class_name
from trpo_deploy.envs.mujoco_components import mujoco_control
from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.envs.wrapped_components import wrapped_control
from trpo_deploy.errors import SpaceError
from trpo_deploy.spec.components import (
    Component,
    ControlSpec,
    check_action_components,
    check_observation_components,
    checked_action,
)
from trpo_deploy.spec.policy_spec import spaces_by_key
from trpo_deploy.spec.spaces import DictSpace, Space

AnyEnv: TypeAlias = gymnasium.Env[Any, Any]


def find_control(env: AnyEnv) -> tuple[ControlSpec, tuple[str, ...]]:
    """What is known about the observations and actions of an environment with its wrappers.

    The environment is neither reset nor stepped.

    Returns:
        What is known, and notes on attributes that are not used, since they do not fit.
    """
    notes: list[str] = []
    try:
        return _control_of(env, notes), tuple(notes)
    except FAILURES as error:  # foreign code
        reason = " ".join(str(error).split()) or type(error).__name__
        return ControlSpec(), (f"{class_name(env)} does not tell its names: {reason:.200}",)


def fitting(
    control: ControlSpec, observation_spaces: Mapping[str, Space], action_space: Space | None
) -> ControlSpec:
    """The part of a control spec that fits the spaces.

    Args:
        control: What may be known.
        observation_spaces: By key.
        action_space: ``None`` if a spec cannot have it.
    """
    observations = {}
    for key, components in control.observation_components.items():
        with suppress(ValueError):
            check_observation_components(components, key, observation_spaces)
            observations[key] = components
    actions: tuple[Component, ...] = ()
    safe = None
    if action_space is not None:
        with suppress(ValueError):
            check_action_components(control.action_components, action_space)
            actions = control.action_components
        if control.safe_action is not None:
            with suppress(ValueError):
                safe = checked_action(control.safe_action, action_space)
    return ControlSpec(observations, actions, control.period, safe)


def _control_of(env: AnyEnv, notes: list[str]) -> ControlSpec:
    if isinstance(env, gymnasium.Wrapper):
        found = wrapped_control(env, _control_of(env.env, notes))
    else:
        found = mujoco_control(env).updated(control_by_class(env))
    observation_spaces, action_space = _spaces(env)
    found = fitting(found, observation_spaces, action_space)
    try:
        return found.updated(declared_control(env, found, observation_spaces, action_space))
    except (TypeError, ValueError) as error:
        notes.append(f"the names that {class_name(env)} tells are not used: {error}")
        return found


def _spaces(env: AnyEnv) -> tuple[Mapping[str, Space], Space | None]:
    """The spaces of an environment as far as a spec can have them."""
    observation: Space | DictSpace = DictSpace({})
    with suppress(SpaceError):
        observation = space_from_gymnasium(env.observation_space)
    with suppress(SpaceError):
        action = space_from_gymnasium(env.action_space)
        if not isinstance(action, DictSpace):
            return spaces_by_key(observation), action
    return spaces_by_key(observation), None
