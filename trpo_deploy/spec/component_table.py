"""The components of a policy as a table for people: a row for each number, cells of text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trpo_deploy.spec.codec import Array
from trpo_deploy.spec.components import Component
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import DiscreteSpace, Space, bounds


@dataclass(frozen=True)
class Table:
    """Rows about one array."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def component_tables(spec: PolicySpec) -> Iterator[Table]:
    """A table for each observation key and for the action, unless nothing is known about it.

    Observations have the normaliser's mean and standard deviation, where recorded. Numbers are
    rounded to four digits.
    """
    for key, space in spec.observation_spaces.items():
        components = spec.observation_components.get(key, ())
        info = spec.normalizer
        statistics = {} if info is None else {"mean": info.mean, "std": info.std}
        numbers = {name: found[key] for name, found in statistics.items() if key in found}
        if components or numbers:
            yield _table(f"observation {key}", components, space, numbers)
    components, space = spec.action_components, spec.action_space
    if components and isinstance(space, DiscreteSpace):
        rows = ((str(space.start + index), each.name) for index, each in enumerate(components))
        yield Table("action", ("value", "name"), tuple(rows))
    elif components:
        yield _table("action", components, space, {})


def period_text(spec: PolicySpec) -> str:
    """The control period in words, as in ``0.05 s (20 Hz)``."""
    return "unknown" if spec.period is None else f"{spec.period:g} s ({1 / spec.period:g} Hz)"


def _table(
    title: str, components: tuple[Component, ...], space: Space, numbers: dict[str, Array]
) -> Table:
    low, high = bounds(space)
    columns: dict[str, list[str]] = {"": [str(index) for index in range(low.size)]}
    if components:
        columns["name"] = [each.name for each in components]
        columns["unit"] = [each.unit or "" for each in components]
    for name, array in {"low": low, "high": high, **numbers}.items():
        columns[name] = [f"{number:.4g}" for number in array.flatten().tolist()]
    return Table(title, tuple(columns), tuple(zip(*columns.values(), strict=True)))
