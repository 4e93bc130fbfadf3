"""The file ``NAME.h``: the types, sizes and functions of a policy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trpo_deploy.export.targets.c.interface import Interface, Member
from trpo_deploy.export.targets.c.literals import comment, number, string
from trpo_deploy.export.targets.robot import RobotFacts
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import Array, BoxSpace, DiscreteSpace

_MAX_BOUNDS = 1024  # bounds of more numbers, such as pixels, only cost flash


def header_text(spec: PolicySpec, interface: Interface, facts: RobotFacts, cost: str) -> str:
    """The text of ``NAME.h``.

    Args:
        spec: The policy's spec.
        interface: Its types.
        facts: What a program around it needs to know.
        cost: Flash and stack as measured, or an empty text.
    """
    guard = f"{interface.macro}_H"
    parts = [
        "\n".join(_title(spec, interface, cost)),
        f"#ifndef {guard}\n#define {guard}",
        "#include <stdbool.h>\n#include <stdint.h>",
        '#ifdef __cplusplus\nextern "C" {\n#endif',
        "\n".join(_sizes(interface, facts)),
        *_types(interface),
        "\n".join(_constants(interface, facts)),
        "\n".join(_functions(interface)),
        "#ifdef __cplusplus\n}\n#endif",
        "#endif",
    ]
    return "\n\n".join(parts) + "\n"


def _title(spec: PolicySpec, interface: Interface, cost: str) -> Iterator[str]:
    environment = spec.environment or "an unknown environment"
    yield f"/* {interface.name}: {comment(f'{spec.algorithm} on {environment}')}."
    yield " * Written by trpo-deploy. C99 and C++; needs math.h, no heap and no static memory."
    yield " * Pass raw observations: this code has the steps from them to the action."
    yield " *"
    for step in spec.preprocessing:
        yield f" * {comment(step)}"
    if cost:
        yield " *"
        yield f" * {comment(cost)}"
    yield " */"


def _sizes(interface: Interface, facts: RobotFacts) -> Iterator[str]:
    for each in (*interface.observations, interface.action):
        shape = ", ".join(map(str, each.shape))
        note = f" /* ({shape}), row after row */" if len(each.shape) > 1 else ""
        yield f"#define {interface.macro}_{each.label.upper()}_SIZE {each.size}{note}"
    if facts.period is not None:
        period = number(facts.period, "float")
        yield f"#define {interface.macro}_PERIOD_SECONDS {period} /* between two actions */"


def _types(interface: Interface) -> Iterator[str]:
    if interface.has_keys:
        yield _struct(interface.observations, f"{interface.name}_observation", "")
    if interface.states:
        about = "/* Earlier frames, which NAME_act updates; one for each robot. */\n"
        about = about.replace("NAME", interface.name)
        yield _struct(interface.states, f"{interface.name}_state", about)


def _struct(members: tuple[Member, ...], name: str, about: str) -> str:
    body = "\n".join(f"    {each.declaration()};{_key_note(each)}" for each in members)
    return f"{about}typedef struct {{\n{body}\n}} {name};"


def _key_note(member: Member) -> str:
    limits = member.limits
    if limits is None or member.size != 1:
        return ""
    return f" /* {limits[0][0]} to {limits[1][0]} */"


def _constants(interface: Interface, facts: RobotFacts) -> Iterator[str]:
    yield "/* Bounds, inclusive; the largest finite number stands for infinity. */"
    for each, _, _ in _bounded(interface):
        for end in ("low", "high"):
            yield f"extern const {each.ctype} {interface.name}_{each.label}_{end}[{each.size}];"
    if facts.tells_safe_action:
        yield "/* The action for an observation that is not usable. */"
    else:
        yield "/* The action for an observation that is not usable. The policy does not tell a safe"
        yield " * one, so it is the value closest to zero, or the first: check that it is safe. */"
    action = interface.action
    yield f"extern const {action.ctype} {interface.name}_safe_action[{action.size}];"
    tables = tuple(_tables(interface, facts))
    if tables:
        yield "/* Name and unit of each number, in order. An unknown unit is an empty text. */"
    for name, texts in tables:
        if name == "action_names" and isinstance(action.space, DiscreteSpace):
            first = action.space.start
            index = f"action {'-' if first > 0 else '+'} {abs(first)}" if first else "action"
            yield f"/* A name for each value: {interface.name}_action_names[{index}]. */"
        yield f"extern const char {interface.name}_{name}[{len(texts)}][{_longest(texts)}];"


def _functions(interface: Interface) -> Iterator[str]:
    name = interface.name
    if interface.states:
        yield "/* Start an episode: the earlier frames become zeros. */"
        yield f"void {name}_reset({name}_state *state);"
        yield ""
    yield "/* The action for a raw observation. Returns false and the safe action if a number of"
    yield " * the observation is not finite or not in its range, or if the network overflows."
    yield " * The earlier frames stay as they are then. */" if interface.states else " */"
    yield f"bool {name}_act({interface.parameters()});"
    yield ""
    yield f"/* In {name}_test.c: run the golden rows; the largest error, as a part of the action's"
    yield " * range. At most 5e-6 is right; for discrete actions, 0. */"
    yield f"float {name}_selftest(void);"


def bounds(interface: Interface) -> Iterator[str]:
    """Definitions of the bounds, for ``NAME.c``."""
    for each, low, high in _bounded(interface):
        lines = []
        for end, values in (("low", low), ("high", high)):
            numbers = ", ".join(number(value, each.ctype) for value in values.reshape(-1))
            name = f"{interface.name}_{each.label}_{end}[{each.size}]"
            lines.append(f"const {each.ctype} {name} = {{{numbers}}};")
        yield "\n".join(lines)


def name_tables(interface: Interface, facts: RobotFacts) -> Iterator[str]:
    """Definitions of names and units, for ``NAME.c``. Not pointers: they need relocation in RAM."""
    for name, texts in _tables(interface, facts):
        rows = ",\n".join(f"    {string(each)}" for each in texts)
        size = f"[{len(texts)}][{_longest(texts)}]"
        yield f"const char {interface.name}_{name}{size} = {{\n{rows}\n}};"


def _bounded(interface: Interface) -> Iterator[tuple[Member, Array, Array]]:
    """Members with bounds that say something."""
    for each in (*interface.observations, interface.action):
        if each.limits is not None:
            low, high = each.limits
            yield each, low, high
        elif isinstance(each.space, BoxSpace) and each.size <= _MAX_BOUNDS:
            low, high = each.space.inner_bounds
            if np.isfinite(low).any() or np.isfinite(high).any():
                yield each, low, high


def _tables(interface: Interface, facts: RobotFacts) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names and, where one is known, units; each with the name of its table."""
    members = [
        (each.label, facts.observation_components.get(each.key, ()))
        for each in interface.observations
    ]
    for member, components in (*members, ("action", facts.action_components)):
        if components:
            yield f"{member}_names", tuple(each.name for each in components)
        if any(each.unit is not None for each in components):
            yield f"{member}_units", tuple(each.unit or "" for each in components)


def _longest(names: tuple[str, ...]) -> int:
    return 1 + max(len(each.encode()) for each in names)
