"""Finds wrappers whose state outlives an episode, such as a running mean of the observations.

What a policy observes and what becomes of its actions belong to the policy. A state that ``reset``
does not restore is in no file of the model: an evaluation, an exported file and a resumed run would
each start with another one.

The running statistics of known wrappers are refused by their class; other wrappers of known
libraries have no such state, as the tests check. All others play the same episode several times,
with the same seed, actions and random numbers. If the wrapped environment returns the same each
time and the wrapper does not, the wrapper has lasting state. Counters and caches that change
nothing pass. Wrappers of an environment that is not reproducible pass too: there a difference has
other causes.
"""

from __future__ import annotations

import copy
import itertools
import pickle
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FunctionType, ModuleType
from typing import Any, TypeAlias
from unittest import mock

import gymnasium
import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.utils.env_checker import data_equivalence

from trpo_deploy.envs.environment import FAILURES, AnyEnv, Environment, layers_of
from trpo_deploy.envs.known_wrappers import (
    STATISTICS,
    WITHOUT_EFFECT,
    class_name,
    public_name,
)
from trpo_deploy.envs.trust import is_known_wrapper
from trpo_deploy.envs.wrappers import wrapper_classes
from trpo_deploy.errors import ConfigError

AnyWrapper: TypeAlias = gymnasium.Wrapper[Any, Any, Any, Any]

_SEED = 0
_STEPS = 20
"""Steps of an episode; then it is truncated, since some wrappers change their state at its end."""
_PLAYS = ((_SEED, 3), (None, 2))
"""Seed of the resets, and number of plays.

Some wrappers drop their state when they get a seed, which the resets of a training do not have.
"""
_DEPTH = 3
"""Levels of containers and objects in which values are looked for."""
_MAX_ITEMS = 1000
"""A larger container is a data set."""

_Event: TypeAlias = tuple[str, Any]
"""Something that passed a wrapper, and its value: ``got`` and ``sent`` inside, ``returned`` and
``reward`` outside."""


def refuse_running_statistics(environment: Environment) -> None:
    """Refuse known wrappers with running statistics by name, before an environment is made.

    Raises:
        ConfigError: With the setting that replaces the wrapper.
    """
    for name in map(public_name, wrapper_classes(environment.env_wrapper)):
        if name in STATISTICS:
            raise ConfigError(_refused_statistics(environment, name, name))


def check_lasting_state(
    environment: Environment, env: AnyEnv, note: Callable[[str], None] = lambda _: None
) -> None:
    """Refuse wrappers whose state outlives an episode and changes observations or actions.

    A state that changes rewards or the ends of episodes only, such as a curriculum's, belongs to
    the task. It passes with a note.

    Args:
        environment: How the environment was made, for messages.
        env: The environment with its wrappers; the check may play episodes in it.
        note: Called with messages for the user.

    Raises:
        ConfigError: With the wrapper, and the attributes that ``reset`` does not restore.
    """
    wrappers = [layer for layer in layers_of(env) if isinstance(layer, gymnasium.Wrapper)]
    with _randomness_kept():
        for wrapper in wrappers:
            for ancestor in type(wrapper).__mro__:
                name = public_name(f"{ancestor.__module__}:{ancestor.__name__}")
                if name in STATISTICS:
                    raise ConfigError(_refused_statistics(environment, class_name(wrapper), name))
        for wrapper in reversed(wrappers):  # the innermost first: the others see its effect
            name = class_name(wrapper)
            if not (name in WITHOUT_EFFECT or is_known_wrapper(name)):
                _check_by_replay(environment, wrapper, note)


def _refused_statistics(environment: Environment, name: str, known: str) -> str:
    return (
        f"{name} around {environment.env_id} normalizes by running statistics, which no file of "
        f"the model would contain; leave it out and use --set 'normalize={STATISTICS[known]}'"
    )


def _check_by_replay(
    environment: Environment, wrapper: AnyWrapper, note: Callable[[str], None]
) -> None:
    changed, attributes = _difference(wrapper)
    if changed is None:
        return
    of = f" ({', '.join(attributes)})" if attributes else ""
    state = f"{class_name(wrapper)} around {environment.env_id} has state that reset() keeps{of}"
    if changed == "reward":
        note(
            f"{state}; it changes rewards or the ends of episodes, is in no file of the model, and "
            "starts again in each evaluation"
        )
        return
    what = "the actions" if changed == "sent" else "the observations"
    raise ConfigError(
        f"{state} and that changes {what}; no file of the model would contain it. Restore it in "
        "reset(), make it constant, or leave the wrapper out; running statistics belong in "
        "--set normalize=true, and random numbers come from self.np_random, which the run seeds"
    )


def _difference(wrapper: AnyWrapper) -> tuple[str | None, list[str]]:
    """What differs between two plays of the same episode, and the attributes that may be the cause.

    Returns:
        The kind of the first event that differs, or None; and names of attributes that differ at
        the two starts.
    """
    try:
        for seed, plays in _PLAYS:
            generators = _generators(wrapper)  # a reset with a seed makes new ones
            first, state = _played(wrapper, seed)
            for _ in range(plays - 1):
                _restore(generators)
                again, later = _played(wrapper, seed)
                kind = _first_difference(first, again)
                if kind is not None:
                    names = {*state, *later}
                    changed = sorted(name for name in names if state.get(name) != later.get(name))
                    return (None if kind == "got" else kind), changed[:5]
    except FAILURES:  # foreign code; the run itself reports what it raises
        pass
    return None, []


def _first_difference(first: list[_Event], again: list[_Event]) -> str | None:
    # Observations and actions decide, even if a reward differs before them.
    for rewards in (False, True):
        pairs = [
            [event for event in events if rewards or event[0] != "reward"]
            for events in (first, again)
        ]
        for one, other in zip(*pairs, strict=False):
            if not data_equivalence(one, other, exact=True):
                return one[0] if one[0] == other[0] else "returned"
    return None


def _played(wrapper: AnyWrapper, seed: int | None) -> tuple[list[_Event], dict[str, bytes]]:
    """Play an episode of the environment; see what passed the wrapper, and how it started.

    Args:
        wrapper: The wrapper.
        seed: Seed of the reset; without one, the generators continue.

    Returns:
        The events, and the wrapper's attributes after the reset.
    """
    events: list[_Event] = []
    rng = np.random.default_rng(_SEED)
    wrapper.action_space.seed(_SEED)
    with _recorded(wrapper.env, events) as has_ended, _generators_without_seed():
        events.append(("returned", copy.deepcopy(wrapper.reset(seed=seed)[0])))
        state = _attributes(wrapper)
        for _ in range(_STEPS):
            wrapper.action_space.seed(int(rng.integers(2**31)))
            observation, reward, *ends, _ = wrapper.step(wrapper.action_space.sample())
            events.append(("returned", copy.deepcopy(observation)))
            events.append(("reward", (float(reward), *map(bool, ends))))
            if has_ended():
                break
            if any(ends):  # perhaps a life is lost, and the environment's episode goes on
                events.append(("returned", copy.deepcopy(wrapper.reset()[0])))
    return events, state


@contextmanager
def _recorded(env: gymnasium.Env[Any, Any], events: list[_Event]) -> Iterator[Callable[[], bool]]:
    """Record what an environment gets and returns, by its attributes: no wrapper is inserted.

    The value is a function that tells whether the environment's episode has ended.
    """
    step, reset, steps, ended = env.step, env.reset, 0, False

    def recorded_step(action: Any) -> Any:
        nonlocal steps, ended
        events.append(("sent", copy.deepcopy(action)))
        observation, reward, terminated, truncated, info = step(action)
        steps += 1
        truncated = bool(truncated) or steps >= _STEPS
        ended = bool(terminated or truncated)
        events.append(("got", copy.deepcopy((observation, reward, terminated, truncated))))
        return observation, reward, terminated, truncated, info

    def recorded_reset(**kwargs: Any) -> Any:
        observation, info = reset(**kwargs)
        events.append(("got", copy.deepcopy(observation)))
        return observation, info

    before = dict(vars(env))
    vars(env).update(step=recorded_step, reset=recorded_reset)
    try:
        yield lambda: ended
    finally:
        for name in ("step", "reset"):
            vars(env).pop(name)
            if name in before:
                vars(env)[name] = before[name]


def _attributes(wrapper: AnyWrapper) -> dict[str, bytes]:
    """Numbers and text among a wrapper's attributes, by name, in a form to compare."""
    kinds = (bool, int, float, complex, str, np.generic, np.ndarray, torch.Tensor)
    own = {name: value for name, value in vars(wrapper).items() if name != "env"}
    found = {}
    for name, value in own.items():
        for path, leaf in _leaves(name, value, _DEPTH):
            if isinstance(leaf, kinds):
                with suppress(Exception):
                    found[path] = pickle.dumps(leaf)
    return found


def _leaves(path: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """The values within a value, with their paths."""
    parts: list[tuple[str, Any]] = []
    if isinstance(value, Mapping) and len(value) <= _MAX_ITEMS:
        parts = [(f"{path}[{key!r}]", part) for key, part in value.items()]
    elif isinstance(value, (list, tuple, deque)) and len(value) <= _MAX_ITEMS:
        parts = [(f"{path}[{i}]", part) for i, part in enumerate(value)]
    elif not isinstance(value, (gymnasium.Env, gymnasium.Space, type, ModuleType, FunctionType)):
        parts = [(f"{path}.{name}", part) for name, part in getattr(value, "__dict__", {}).items()]
    if not parts:
        yield path, value
    elif depth:
        for name, part in parts:
            yield from _leaves(name, part, depth - 1)


@contextmanager
def _generators_without_seed() -> Iterator[None]:
    """Give the generators that are made without a seed the same numbers in each play.

    Many wrappers make one in each reset, as ``default_rng(seed)``. That is no lasting state.
    """
    default_rng, count = np.random.default_rng, itertools.count()

    def numpys(seed: Any = None) -> np.random.Generator:
        return default_rng(next(count) if seed is None else seed)

    def gymnasiums(seed: int | None = None) -> tuple[np.random.Generator, int]:
        used = next(count) if seed is None else seed
        return default_rng(used), used

    with (
        mock.patch.object(np.random, "default_rng", numpys),
        mock.patch.object(seeding, "np_random", gymnasiums),
    ):
        yield


_Generators: TypeAlias = list[tuple[Callable[[Any], None], Any]]
"""Functions that restore the states of random generators, and these states."""


def _process_generators() -> _Generators:
    return [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),
        (torch.set_rng_state, torch.get_rng_state()),
    ]


def _generators(env: gymnasium.Env[Any, Any]) -> _Generators:
    """The random generators of the process, and those of an environment and its wrappers."""
    found = _process_generators()
    for layer in layers_of(env):
        for name, value in list(vars(layer).items()):
            for _, leaf in _leaves(name, value, _DEPTH):
                if isinstance(leaf, np.random.Generator):
                    bits = leaf.bit_generator
                    found.append((_state_setter(bits), copy.deepcopy(bits.state)))
                elif isinstance(leaf, np.random.RandomState):
                    found.append((leaf.set_state, leaf.get_state()))
                elif isinstance(leaf, random.Random):
                    found.append((leaf.setstate, leaf.getstate()))
                elif isinstance(leaf, torch.Generator):
                    set_state: Callable[[Any], Any] = leaf.set_state
                    found.append((set_state, leaf.get_state()))
    return found


def _state_setter(bits: Any) -> Callable[[Any], None]:
    return lambda state: setattr(bits, "state", state)


def _restore(generators: _Generators) -> None:
    for restore, state in generators:
        restore(copy.deepcopy(state))


@contextmanager
def _randomness_kept() -> Iterator[None]:
    """Restore the random generators of the process after the block."""
    generators = _process_generators()
    try:
        yield
    finally:
        _restore(generators)
