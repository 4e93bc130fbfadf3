"""What LEAPP calls the semantics of a tensor: its ``kind`` and its ``element_names``.

A runtime connects a robot's joints to a tensor by these, without asking. So a kind is given only
where the spec leaves one reading. Source: ``InputKindEnum`` and ``OutputKindEnum`` of LEAPP.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trpo_deploy.spec.components import Component
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import BoxSpace, Space

# What follows a joint's name, such as ``hip_1.position``; the kind; its units. A unit with a
# factor, such as ``4 rad/s``, has none: the runtime would feed rad/s.
_JOINT_STATES = {
    "position": ("state/joint/position", ("rad", "m")),
    "velocity": ("state/joint/velocity", ("rad/s", "m/s")),
}
_JOINT_TARGETS = {
    "rad": "target/joint/position",
    "m": "target/joint/position",
    "rad/s": "target/joint/velocity",
    "m/s": "target/joint/velocity",
    "N m": "target/joint/effort",
    "N": "target/joint/effort",
}
# The robot's own name: not a number in a model (``joint[3]``), nor behind a key (``arm.hip``).
_JOINT = re.compile(r"[\w-]+")
_GOAL = "desired_goal"
"""Key of Gymnasium's ``GoalEnv`` for what a state should be, which no sensor measures."""


@dataclass(frozen=True)
class Semantics:
    """What the numbers of a tensor are, as far as the spec tells."""

    names: tuple[str, ...] = ()
    """A name for each number: those of joints if there is a kind."""
    units: tuple[str | None, ...] = ()
    """A unit for each number; empty if none is known."""
    kind: str | None = None


def observation_semantics(spec: PolicySpec) -> Mapping[str, Semantics]:
    """By observation key; keys without names are missing."""
    kinds = {key: each for key, each in _joint_states(spec).items() if key != _GOAL}
    # A joint has one position. Of two inputs with it, at least one is something else.
    claims = Counter(
        (kind, joint) for kind, joints in kinds.values() for joint in frozenset(joints)
    )
    found = {}
    for key, components in spec.observation_components.items():
        kind, joints = kinds.get(key, ("", ()))
        if kind and all(claims[kind, joint] == 1 for joint in joints):
            found[key] = Semantics(joints, _units(components), kind)
        elif _is_row(spec.observation_spaces[key]):
            found[key] = Semantics(_names(components), _units(components))
    return found


def action_semantics(spec: PolicySpec) -> Semantics:
    """The action's semantics; its names are joints only if the observation has these too."""
    components, space = spec.action_components, spec.action_space
    if not components or not _is_row(space):  # a Discrete action has names for its values
        return Semantics()
    kinds = {_JOINT_TARGETS.get(each.unit or "") for each in components}
    names, joints = _names(components), {*_joints(spec)}
    is_known = isinstance(space, BoxSpace) and len(kinds) == 1 and joints.issuperset(names)
    return Semantics(names, _units(components), kinds.pop() if is_known else None)


def _joint_states(spec: PolicySpec) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Key -> kind and joints, of the keys whose numbers are all of one kind."""
    found = {}
    for key, components in spec.observation_components.items():
        space = spec.observation_spaces[key]
        states = [_joint_state(each) for each in components]
        kinds = {kind for kind, _ in states}
        if isinstance(space, BoxSpace) and _is_row(space) and len(kinds) == 1 and "" not in kinds:
            found[key] = (kinds.pop(), tuple(joint for _, joint in states))
    return found


def _joint_state(component: Component) -> tuple[str, str]:
    """The kind and the joint; both empty if the number is not the state of a joint."""
    joint, _, quantity = component.name.rpartition(".")
    kind, units = _JOINT_STATES.get(quantity, ("", ()))
    is_known = _JOINT.fullmatch(joint) and component.unit in units
    return (kind, joint) if is_known else ("", "")


def _joints(spec: PolicySpec) -> Iterator[str]:
    for components in spec.observation_components.values():
        yield from (joint for _, joint in map(_joint_state, components) if joint)


def _is_row(space: Space) -> bool:
    """Whether an array has one axis, so that a name for each number is a name along it."""
    return len(space.shape) == 1


def _names(components: Sequence[Component]) -> tuple[str, ...]:
    return tuple(each.name for each in components)


def _units(components: Sequence[Component]) -> tuple[str | None, ...]:
    units = tuple(each.unit for each in components)
    return units if any(units) else ()
