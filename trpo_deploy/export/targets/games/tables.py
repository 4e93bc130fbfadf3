"""Tables of a policy's observations and actions, for the ``README.md`` of a game's folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from trpo_deploy.export.targets.games.actions import Branches, GameRange
from trpo_deploy.spec.components import Component
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import Array, BoxSpace, DiscreteSpace

_MOST_ROWS = 64  # images and other long arrays have no table


def observation_tables(spec: PolicySpec) -> str:
    """What each number of each observation is, as far as the spec tells."""
    parts = []
    for key, space in spec.observation_spaces.items():
        lines = [f"`{key}`: {space.describe()}."]
        components = spec.observation_components.get(key, ())
        if 0 < len(components) <= _MOST_ROWS:
            rows = ((str(index), *_name(each)) for index, each in enumerate(components))
            lines += ["", table(("number", "name", "unit"), rows)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def action_table(spec: PolicySpec) -> str:
    """What the game receives for each number of the action, and what the environment takes."""
    space, components = spec.action_space, spec.action_components
    if isinstance(space, BoxSpace):
        return _continuous_table(space, components)
    if isinstance(space, DiscreteSpace):
        if 0 < len(components) <= _MOST_ROWS:
            values = enumerate(components)
            rows = ((str(i), _name(each)[0], str(space.start + i)) for i, each in values)
            return table(("value", "name", "environment"), rows)
        components = ()
    branches = Branches.of(space)
    pairs = zip(branches.sizes, branches.starts.tolist(), strict=True)
    return table(
        ("branch", "name", "game", "environment"),
        (
            (
                str(index),
                _name(_component(components, index))[0],
                f"0 to {size - 1}",
                f"{start} to {start + size - 1}",
            )
            for index, (size, start) in islice(enumerate(pairs), _MOST_ROWS)
        ),
    )


def _continuous_table(space: BoxSpace, components: Sequence[Component]) -> str:
    bounds = zip(space.low.flat, space.high.flat, GameRange.of(space).bounded, strict=True)
    rows = (
        (
            str(index),
            *_name(_component(components, index)),
            f"{low:g} for -1, {high:g} for 1" if bounded else "the same number",
        )
        for index, (low, high, bounded) in islice(enumerate(bounds), _MOST_ROWS)
    )
    return table(("number", "name", "unit", "environment"), rows)


def page(*parts: str) -> str:
    """Parts of a page in Markdown, without those that are empty."""
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def numbers(values: Array, suffix: str = "") -> str:
    """Numbers of float32 as literals of C# and GDScript, exact and with commas between."""
    texts = (np.format_float_positional(each, trim="0") for each in values.astype(np.float32))
    return ", ".join(text + suffix for text in texts)


def _component(components: Sequence[Component], index: int) -> Component | None:
    return components[index] if index < len(components) else None


def _name(component: Component | None) -> tuple[str, str]:
    if component is None:
        return "", ""
    return component.name, component.unit or ""
