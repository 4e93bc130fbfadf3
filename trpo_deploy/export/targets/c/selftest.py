"""The file ``NAME_test.c``: golden rows, and the function that runs them on the target."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trpo_deploy.export.targets.agreement import TOLERANCE, action_scale
from trpo_deploy.export.targets.c.interface import Interface, Member
from trpo_deploy.export.targets.c.literals import numbers
from trpo_deploy.export.targets.golden import Golden
from trpo_deploy.spec.spaces import Array, BoxSpace


def selftest_text(interface: Interface, golden: Golden) -> str:
    """The text of ``NAME_test.c``."""
    name, action = interface.name, interface.action
    rows = len(golden.actions)
    actions = ",\n".join(f"    {_numbers(action, row)}" for row in golden.actions)
    return f"""\
/* Golden rows of {name}: one episode, with onnxruntime's actions. Compile with {name}.c.
 * With -D{interface.macro}_TEST_MAIN it is a program that ends with 0 if all is right. */
#include "{name}.h"

#define ROWS {rows}

static const {_row_type(interface)} = {{
{_observations(interface, golden)}
}};

static const {action.ctype} actions[ROWS][{action.size}] = {{
{actions}
}};

static const float scale[{action.size}] = {_scale(action)};

float {name}_selftest(void)
{{
    float largest = 0.0f;
{_state(interface)}    for (int32_t row = 0; row < ROWS; ++row) {{
        {action.ctype} action[{action.size}];
        if (!{name}_act({_arguments(interface)})) {{
            return 1e30f;
        }}
        for (int32_t i = 0; i < {action.size}; ++i) {{
            const float difference = (float)action[i] - (float)actions[row][i];
            const float error = (difference < 0.0f ? -difference : difference) / scale[i];
            largest = error <= largest ? largest : error;
        }}
    }}
    return largest;
}}

#ifdef {interface.macro}_TEST_MAIN
#include <stdio.h>

int main(void)
{{
    const float error = {name}_selftest();
    printf("{name}: largest error %g of the range in %d rows\\n", (double)error, (int)ROWS);
    return error <= {TOLERANCE:g}f ? 0 : 1;
}}
#endif
"""


def _row_type(interface: Interface) -> str:
    if interface.has_keys:
        return f"{interface.name}_observation observations[ROWS]"
    only = interface.observations[0]
    size = "" if only.is_scalar else f"[{only.size}]"
    return f"{only.ctype} observations[ROWS]{size}"


def _observations(interface: Interface, golden: Golden) -> str:
    rows = []
    for row in range(len(golden.actions)):
        parts = [_numbers(each, golden.observations[each.key][row]) for each in _members(interface)]
        text = ", ".join(parts)
        rows.append(f"    {{{text}}}" if interface.has_keys else f"    {text}")
    return ",\n".join(rows)


def _members(interface: Interface) -> Iterator[Member]:
    yield from interface.observations


def _numbers(member: Member, values: Array) -> str:
    texts = numbers(np.asarray(values), member.ctype)
    if member.is_scalar and member.key != "action":
        return texts[0]
    return "{" + ", ".join(texts) + "}"


def _scale(action: Member) -> str:
    space = action.space
    values = np.ones(action.size)
    if isinstance(space, BoxSpace):
        values = action_scale(space).reshape(-1)
    return "{" + ", ".join(numbers(values, "float")) + "}"


def _state(interface: Interface) -> str:
    if not interface.states:
        return ""
    return f"    {interface.name}_state state;\n    {interface.name}_reset(&state);\n"


def _arguments(interface: Interface) -> str:
    parts = ["&state"] if interface.states else []
    parts.append(("&" if interface.has_keys else "") + "observations[row]")
    return ", ".join([*parts, "action"])
