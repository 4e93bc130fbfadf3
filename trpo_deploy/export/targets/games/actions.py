"""The numbers that a game receives, and the environment's action for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trpo_deploy.export.graph.distribution import PARAMETERS
from trpo_deploy.export.policy.categories import category_counts, first_categories
from trpo_deploy.export.policy.outputs import OBS_OK
from trpo_deploy.export.targets.games.wiring import OWN_PREFIX, Wiring
from trpo_deploy.spec.policy_spec import ACTION
from trpo_deploy.spec.spaces import (
    Array,
    BoxSpace,
    DiscreteSpace,
    MultiDiscreteSpace,
    Space,
)


@dataclass(frozen=True, eq=False)
class GameRange:
    """From -1..1, which a game receives, to the bounds of a Box action.

    A number without two finite bounds is the same in both.
    """

    center: Array
    """float32, ``(numbers,)``."""
    half: Array
    """Half the distance between the bounds: float32, ``(numbers,)``."""
    bounded: Array
    """Whether a number has two finite bounds: bool, ``(numbers,)``."""

    @classmethod
    def of(cls, space: BoxSpace) -> GameRange:
        """The range of a Box."""
        low, high = (each.reshape(-1).astype(np.float64) for each in (space.low, space.high))
        with np.errstate(over="ignore"):  # a bound beyond float32 is infinite
            bounded = np.isfinite(low.astype(np.float32)) & np.isfinite(high.astype(np.float32))
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        center, half = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
        return cls(center.astype(np.float32), half.astype(np.float32), bounded)

    @property
    def is_identity(self) -> bool:
        """Whether the game receives the environment's action itself."""
        return not self.center.any() and bool((self.half == 1).all())

    @property
    def rounding(self) -> float:
        """Largest rounding error of an action on the way to a game and back.

        Each of the four operations rounds a number of at most the bounds' size.
        """
        if self.is_identity:
            return 0.0
        return float(2 * np.finfo(np.float32).eps * (np.abs(self.center) + self.half).max())

    def to_environment(self, values: Array) -> Array:
        """The environment's action for numbers of a game, ``(batch, numbers)``."""
        return np.asarray(self.center + self.half * values, np.float32)


@dataclass(frozen=True, eq=False)
class Branches:
    """The numbers of a discrete action; a game receives each counted from 0."""

    sizes: tuple[int, ...]
    """How many values each number has."""
    starts: Array
    """The environment's smallest value of each number: int64, ``(numbers,)``."""

    @classmethod
    def of(cls, space: Space) -> Branches:
        """The branches of a space that is not a Box."""
        if isinstance(space, (DiscreteSpace, MultiDiscreteSpace)):
            return cls(tuple(category_counts(space).tolist()), first_categories(space))
        numbers = int(np.prod(space.shape))
        return cls((2,) * numbers, np.zeros(numbers, np.int64))

    @property
    def total(self) -> int:
        """Number of values of all branches."""
        return sum(self.sizes)


def action_rounding(space: Space) -> float:
    """Largest rounding error that a game's range adds to an action; 0 for discrete ones."""
    return GameRange.of(space).rounding if isinstance(space, BoxSpace) else 0.0


def add_continuous(wiring: Wiring, output: str) -> int:
    """Add the action in a game's range; return how many numbers it has."""
    graph, space = wiring.graph, wiring.file.spec.action_space
    assert isinstance(space, BoxSpace)
    numbers, to = int(np.prod(space.shape)), GameRange.of(space)
    flat = f"{OWN_PREFIX}flat_action"
    name = graph.reshape(wiring.tensor(ACTION), [-1, numbers], output if to.is_identity else flat)
    if not to.is_identity:
        # A range of zero width has only one action, whatever the game does with the number.
        half = graph.constant(f"{OWN_PREFIX}half", np.where(to.half > 0, to.half, 1))
        center = graph.constant(f"{OWN_PREFIX}center", to.center)
        name = graph.add("Sub", [name, center], f"{OWN_PREFIX}centered")
        graph.add("Div", [name, half], output)
    wiring.add_output(output, numbers)
    return numbers


def add_logits(wiring: Wiring) -> str:
    """Add the logits of all branches one after another, ``(batch, total)``; return their name.

    A file with a guard gives those of its safe action for an observation that is not finite.
    """
    graph, spec = wiring.graph, wiring.file.spec
    name, branches = wiring.tensor(PARAMETERS), Branches.of(spec.action_space)
    if not isinstance(spec.action_space, (DiscreteSpace, MultiDiscreteSpace)):
        # A number of MultiBinary has one logit: that of 1 against 0.
        numbers = len(branches.sizes)
        one = graph.reshape(name, [-1, numbers, 1], f"{OWN_PREFIX}ones")
        zero = graph.add("Sub", [one, one], f"{OWN_PREFIX}zeros")
        pairs = graph.concat([zero, one], 2, f"{OWN_PREFIX}pairs")
        name = graph.reshape(pairs, [-1, 2 * numbers], f"{OWN_PREFIX}logits")
    if spec.guard is None:
        return name
    safe = np.zeros((1, branches.total), np.float32)
    first = np.cumsum((0, *branches.sizes[:-1]))
    safe[0, first + spec.guard.action.reshape(-1) - branches.starts] = 1
    flag = graph.reshape(wiring.tensor(OBS_OK), [-1, 1], f"{OWN_PREFIX}is_ok")
    chosen = graph.constant(f"{OWN_PREFIX}safe_logits", safe)
    return graph.add("Where", [flag, name, chosen], f"{OWN_PREFIX}guarded_logits")


def split(wiring: Wiring, name: str, branches: Branches) -> list[str]:
    """Split ``(batch, total)`` into one tensor ``(batch, size)`` for each branch."""
    if len(branches.sizes) == 1:
        return [name]
    ends = np.cumsum(branches.sizes).tolist()
    return [
        wiring.graph.slice(name, 1, end - size, end, f"{OWN_PREFIX}branch_{index}")
        for index, (size, end) in enumerate(zip(branches.sizes, ends, strict=True))
    ]
