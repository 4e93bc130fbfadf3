"""State outside of an environment's attributes is noticed, and slots are restored."""

from __future__ import annotations

import functools
import random
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.train.environments import RandomEnv
from tests.train.vec_env import noise_source
from tests.train.vec_env.noise_source import Counter
from tests.train.vec_env.noise_source import drawn as drawn_elsewhere
from trpo_deploy.train.vec_env.checked import ReportingEnv

RNG = np.random.default_rng(1)
PYTHONS = random.Random(2)
COUNTS = {"steps": 0}
TABLE = np.arange(5.0)


class Base(RandomEnv):
    """Subclasses add a number to each observation."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))

    def step(self, action: Any) -> Any:
        observation, *others = super().step(action)
        return observation + np.float32(self.number()), *others

    def number(self) -> float:
        return float(TABLE[2])  # a constant


class InClass(Base):
    """Draws from a generator of its class."""

    rng: ClassVar[Any] = np.random.default_rng(0)

    def number(self) -> float:
        return float(self.rng.normal())


class InClassInside(Base):
    """Draws from a generator within a class attribute."""

    parts: ClassVar[Any] = {"rng": np.random.RandomState(0)}

    def number(self) -> float:
        return float(self.parts["rng"].normal())


class CountedByClass(Base):
    """Counts in its class."""

    total: ClassVar[int] = 0

    def number(self) -> float:
        type(self).total += 1
        return 0.1 * self.total


class InModule(Base):
    """Draws from a generator of the module, in a function of the module."""

    def number(self) -> float:
        return drawn()


def drawn() -> float:
    return float(RNG.normal())


class InModuleByProperty(Base):
    """Draws in a property, from Python's generator."""

    @property
    def draw(self) -> float:
        return PYTHONS.random()

    def number(self) -> float:
        return self.draw


class CountedByModule(Base):
    """Counts in a global of the module."""

    def number(self) -> float:
        COUNTS["steps"] += 1
        return 0.1 * COUNTS["steps"]


class InDefault(Base):
    """Keeps a list in a default argument."""

    def number(self, seen: list[float] = []) -> float:  # noqa: B006 - as users write it
        seen.append(1.0)
        return 0.1 * len(seen)


def remembered(function: Any) -> Any:
    calls = []

    @functools.wraps(function)
    def wrapped(self: Any) -> float:
        calls.append(0)
        return 0.1 * len(calls) + float(function(self))

    return wrapped


class InClosure(Base):
    """Keeps a list in the closure of a decorator."""

    @remembered
    def number(self) -> float:
        return 0.0


class Wrapped(gymnasium.ObservationWrapper[Any, Any, Any]):
    """A wrapper with a generator of its class."""

    rng: ClassVar[Any] = np.random.default_rng(0)

    def observation(self, observation: Any) -> Any:
        return observation + np.float32(self.rng.normal())


class InOtherModule(Base):
    """Calls a function that draws from a generator of its own module."""

    def number(self) -> float:
        return drawn_elsewhere()


class InModuleByName(Base):
    """Counts in another module, by the module's name."""

    def number(self) -> float:
        noise_source.COUNTS["steps"] += 1
        return 0.1 * noise_source.COUNTS["steps"]


class InOtherClass(Base):
    """Counts in a class that is not an environment."""

    def number(self) -> float:
        return Counter.next()


class InIterator(Base):
    """Takes numbers from an endless iterator."""

    def number(self) -> float:
        return next(noise_source.STREAM)


def counted() -> float:
    calls: int = vars(counted).get("calls", 0) + 1
    vars(counted)["calls"] = calls
    return 0.1 * calls


class InFunction(Base):
    """Counts in an attribute of a function."""

    def number(self) -> float:
        return counted()


HIDDEN: list[Any] = [
    InOtherModule,
    InModuleByName,
    InOtherClass,
    InIterator,
    InFunction,
    InClass,
    InClassInside,
    CountedByClass,
    InModule,
    InModuleByProperty,
    CountedByModule,
    InDefault,
    InClosure,
    lambda: Wrapped(Base()),
]


@pytest.mark.parametrize("make", HIDDEN)
def test_an_environment_with_state_elsewhere_has_no_state(make: Any) -> None:
    env = ReportingEnv(make())
    env.reset(seed=0)
    env.checkpoint_state()
    for _ in range(3):
        env.step(0)
    assert env.checkpoint_state() is None


@pytest.mark.parametrize(
    "make",
    [Base, *(functools.partial(gymnasium.make, each) for each in ("CartPole-v1", "Pendulum-v1"))],
)
def test_constants_elsewhere_do_not_hide_the_state(make: Any) -> None:
    env = ReportingEnv(make())
    env.reset(seed=0)
    assert env.checkpoint_state() is not None
    for _ in range(3):
        env.step(env.action_space.sample())
    assert env.checkpoint_state() is not None


class Slotted(Base):
    """Keeps a generator and a number in slots, of which one is empty at first."""

    __slots__ = ("last", "rng")

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(3)

    def number(self) -> float:
        self.last = float(self.rng.normal())
        return self.last


def test_slots_are_restored() -> None:
    first, second = ReportingEnv(Slotted()), ReportingEnv(Slotted())
    for env in (first, second):
        env.reset(seed=0)
        env.checkpoint_state()
    for _ in range(3):
        first.step(0)
    state = first.checkpoint_state()
    assert state is not None
    second.restore_state(state)
    for _ in range(5):
        np.testing.assert_array_equal(first.step(0)[0], second.step(0)[0])
