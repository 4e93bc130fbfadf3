"""What a wrapper makes of the names, units, period and safe action of what it wraps.

A known wrapper changes them by a rule. What an unknown one may change becomes unknown: a wrong name
does more harm than none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeAlias

import gymnasium
from gymnasium import spaces

from trpo_deploy.envs.known_wrappers import OF_THE_TASK, WITHOUT_EFFECT, class_name
from trpo_deploy.spec.components import Component, ControlSpec
from trpo_deploy.spec.policy_spec import OBS

AnyWrapper: TypeAlias = gymnasium.Wrapper[Any, Any, Any, Any]
Rule: TypeAlias = Callable[[Any, ControlSpec], ControlSpec]


def wrapped_control(wrapper: AnyWrapper, inner: ControlSpec) -> ControlSpec:
    """What is known behind a wrapper.

    Args:
        wrapper: The wrapper.
        inner: What is known about the environment in it.
    """
    name = class_name(wrapper)
    if name in WITHOUT_EFFECT | OF_THE_TASK:
        return inner
    rule = _RULES.get(name, _unknown_wrapper)
    return rule(wrapper, inner)


def _unknown_wrapper(wrapper: AnyWrapper, inner: ControlSpec) -> ControlSpec:
    """Keep what the base class keeps, unless the wrapper steps or resets in its own way."""
    base = next(each for each in _BASES if isinstance(wrapper, each))
    kind: Any = type(wrapper)
    if kind.step is not base.step or kind.reset is not base.reset:
        return ControlSpec()
    return _BASES[base](wrapper, inner)


def _same(_wrapper: AnyWrapper, inner: ControlSpec) -> ControlSpec:
    return inner


def _no_observation(_wrapper: AnyWrapper, inner: ControlSpec) -> ControlSpec:
    return replace(inner, observation_components={})


def _no_action(_wrapper: AnyWrapper, inner: ControlSpec) -> ControlSpec:
    return replace(inner, action_components=(), safe_action=None)


def _other_observation_units(_wrapper: AnyWrapper, inner: ControlSpec) -> ControlSpec:
    names = {key: _without_units(each) for key, each in inner.observation_components.items()}
    return replace(inner, observation_components=names)


def _other_action_units(_wrapper: AnyWrapper, inner: ControlSpec) -> ControlSpec:
    names = _without_units(inner.action_components)
    return replace(inner, action_components=names, safe_action=None)


def _without_units(components: Iterable[Component]) -> tuple[Component, ...]:
    return tuple(Component(each.name) for each in components)


def _flatten(wrapper: AnyWrapper, inner: ControlSpec) -> ControlSpec:
    """Join the arrays of a Dict as ``KEY.NAME``, in Gymnasium's order, if all are known.

    One-hot vectors have no names.
    """
    space = wrapper.env.observation_space
    if not isinstance(space, spaces.Dict):
        return inner
    joined: list[Component] = []
    for key, part in space.spaces.items():
        components = inner.observation_components.get(key, ())
        if len(components) != spaces.flatdim(part):
            return _no_observation(wrapper, inner)
        joined += (Component(f"{key}.{each.name}", each.unit) for each in components)
    return replace(inner, observation_components={OBS: tuple(joined)})


def _with_time(wrapper: Any, inner: ControlSpec) -> ControlSpec:
    """Gymnasium's ``TimeAwareObservation``: the time comes last, or under a key of its own."""
    if not wrapper.flatten:
        return inner
    if OBS not in inner.observation_components or isinstance(
        wrapper.env.observation_space, spaces.Dict
    ):
        return _no_observation(wrapper, inner)
    time = Component("time", "1" if wrapper.normalize_time else "step")
    names = (*inner.observation_components[OBS], time)
    return replace(inner, observation_components={OBS: names})


def _repeat(argument: str) -> Rule:
    """A wrapper that takes one action for several steps; an argument says how many."""

    def rule(wrapper: Any, inner: ControlSpec) -> ControlSpec:
        if inner.period is None:
            return inner
        return replace(inner, period=inner.period * int(wrapper._saved_kwargs[argument]))

    return rule


_BASES: dict[type[AnyWrapper], Rule] = {
    gymnasium.ObservationWrapper: _no_observation,
    gymnasium.ActionWrapper: _no_action,
    gymnasium.RewardWrapper: _same,
    gymnasium.Wrapper: _same,
}

_RULES: dict[str, Rule] = {
    "gymnasium.wrappers:Autoreset": _same,
    "gymnasium.wrappers:ClipAction": _same,
    "gymnasium.wrappers:DelayObservation": _same,
    "gymnasium.wrappers:DtypeObservation": _same,
    "gymnasium.wrappers:FilterObservation": _same,  # names of the keys that are left out do not fit
    "gymnasium.wrappers:ReshapeObservation": _same,
    "gymnasium.wrappers:StickyAction": _same,
    "gymnasium.wrappers:FlattenObservation": _flatten,
    "gymnasium.wrappers:FrameStackObservation": _no_observation,
    "gymnasium.wrappers:MaxAndSkipObservation": _repeat("skip"),
    "gymnasium.wrappers:NormalizeObservation": _other_observation_units,
    "gymnasium.wrappers:RepeatAction": _repeat("num_repeats"),
    "gymnasium.wrappers:RescaleAction": _other_action_units,
    "gymnasium.wrappers:RescaleObservation": _other_observation_units,
    "gymnasium.wrappers:TimeAwareObservation": _with_time,
}
