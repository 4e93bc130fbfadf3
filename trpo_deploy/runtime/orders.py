"""Names of numbers turned into positions, once, before the loop."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from trpo_deploy.errors import ControlError
from trpo_deploy.spec.components import Component
from trpo_deploy.spec.spaces import Array

Positions: TypeAlias = npt.NDArray[np.intp]
"""Positions in a source array, one for each number of a target array."""

PerComponent: TypeAlias = float | Sequence[float] | Mapping[str, float] | Array
"""One number for all components, a number for each in order, or numbers by name."""

_LISTED = 5  # names in a message


def checked_order(
    order: Sequence[str], components: Sequence[Component], what: str
) -> tuple[str, ...]:
    """An order of names, which must be exactly the names of the components.

    Args:
        order: Each name once.
        components: The file's components.
        what: What is ordered, for messages.

    Raises:
        ControlError: The file has no names, or a name is missing, unknown or doubled.
    """
    if isinstance(order, str) or not isinstance(order, Iterable):
        raise ControlError(f"the order of {what} is {order!r}, expected a list of names")
    order = tuple(order)  # it may be an iterator
    for name in order:
        if not isinstance(name, str):
            raise ControlError(f"the order of {what} has {name!r}, expected names")
    if not components:
        raise ControlError(
            f"the file does not name the numbers of {what}, so they cannot be ordered by name; "
            "export it with: trpo-deploy export --names FILE"
        )
    names = [each.name for each in components]
    counts = Counter(order)
    wrong = {
        "missing": [name for name in names if name not in counts],
        "unknown": [name for name in counts if name not in names],
        "doubled": [name for name, count in counts.items() if count > 1],
    }
    problems = [f"{kind}: {_listed(found)}" for kind, found in wrong.items() if found]
    if problems:
        raise ControlError(
            f"the order of {what} does not have the file's {len(names)} names, each once; "
            f"{'; '.join(problems)}"
        )
    return order


def positions(source: Sequence[str], target: Sequence[str]) -> Positions:
    """Where each name of the target is in the source."""
    found = {name: index for index, name in enumerate(source)}
    return np.array([found[name] for name in target], np.intp)


def per_component(
    value: PerComponent,
    names: Sequence[str],
    size: int,
    what: str,
    default: float | None = None,
) -> npt.NDArray[np.float64]:
    """A number for each component, ``(size,)``.

    Args:
        value: The numbers.
        names: Names of the components in order; empty if unknown.
        size: Number of components.
        what: What the numbers are, for messages.
        default: The number of names that a mapping lacks; ``None`` if it must have all.

    Raises:
        ControlError: A name is unknown or missing, the length is wrong, or a number is NaN.
    """
    if isinstance(value, Mapping):
        value = _by_name(value, names, what, default)
    try:
        given = np.asarray(value)
        if given.dtype.kind not in "fiub":  # NumPy would read numbers from texts
            raise TypeError(f"it is {given.dtype}")
        numbers = given.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ControlError(f"{what} contains something that is not a number") from error
    if numbers.shape != () and numbers.size != size:
        raise ControlError(f"{what} has {numbers.size} numbers, expected {size}")
    if np.isnan(numbers).any():
        raise ControlError(f"{what} contains NaN, expected numbers")
    return np.broadcast_to(numbers.reshape(-1), size).copy()


def seconds(value: float, what: str) -> float:
    """A time that is not negative; infinity means no limit.

    Raises:
        ControlError: It is something else.
    """
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    if not is_number or isinstance(value, bool) or math.isnan(value) or value < 0:
        raise ControlError(f"{what} is {value!r}, expected seconds of at least 0")
    return float(value)


def _by_name(
    value: Mapping[str, float], names: Sequence[str], what: str, default: float | None
) -> list[float]:
    if not names:
        raise ControlError(f"{what} is given by name, but the file has no names; pass a list")
    wrong = {"unknown": [name for name in value if name not in names], "missing": []}
    if default is None:
        wrong["missing"] = [name for name in names if name not in value]
    problems = [f"{kind}: {_listed(found)}" for kind, found in wrong.items() if found]
    if problems:
        raise ControlError(f"{what} does not fit the file's names; {'; '.join(problems)}")
    return [value[name] if default is None else value.get(name, default) for name in names]


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(map(repr, names[:_LISTED]))
    more = len(names) - _LISTED
    return f"{text} and {more} more" if more > 0 else text
