"""State that an environment keeps outside of its attributes.

A checkpoint has the attributes of an environment. Its code may also change class attributes, module
globals, default arguments and closures, which other environments share. They cannot be restored for
one environment, but a change can be noticed: a run that resumes then says that it is not exact.
"""

from __future__ import annotations

import pickle
import random
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from io import IOBase
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from trpo_deploy.envs.environment import AnyEnv, layers_of

_LIBRARIES = (
    *("gymnasium", "stable_baselines3", "trpo_deploy", "numpy", "torch"),
    *("typing", "abc", "builtins", ""),
)
"""Their classes keep no such state."""
_MAX_OWNERS = 200
"""Functions and classes that are searched, the environment's own first."""
_ADVANCING = (
    np.random.Generator,
    np.random.RandomState,
    random.Random,
    torch.Generator,
    Iterator,
)
"""These change whenever they are used."""
_MAX_BYTES = 1 << 20
"""A larger value is a data set."""


def outside_state(env: AnyEnv) -> dict[str, int] | None:
    """Hashes of the values outside of its attributes that the code of an environment uses, by name.

    Returns:
        The hashes, for a comparison in this process; None if one of the values is a random
        generator or an iterator.
    """
    found = {}
    for layer in layers_of(env):
        for name, value in _outside_values(type(layer)):
            if isinstance(value, _ADVANCING) and not isinstance(value, IOBase):
                return None
            with suppress(Exception):  # modules, lambdas, values that are too large
                file = _Bounded()
                pickle.Pickler(file).dump(value)
                found[f"{type(layer).__qualname__}: {name}"] = hash(bytes(file.content))
    return found


class _Bounded:
    """A file in memory that refuses to become large."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, data: bytes) -> None:
        self.content += data
        if len(self.content) > _MAX_BYTES:
            raise OverflowError


def _outside_values(cls: type) -> Iterator[tuple[str, Any]]:
    """Class attributes, and the values that the methods of a class and their helpers reach.

    Helpers are functions and classes of the same package or folder.
    """
    waiting: deque[Any] = deque(cls.__mro__)
    seen: set[Any] = set()
    while waiting and len(seen) < _MAX_OWNERS:
        owner = waiting.popleft()
        if owner in seen or _package(owner.__module__) in _LIBRARIES:
            continue
        seen.add(owner)
        for name, value in _of_class(owner) if isinstance(owner, type) else _reached(owner):
            if not isinstance(value, (FunctionType, type)):
                yield name, value
            else:
                parts = value.__mro__ if isinstance(value, type) else (value,)
                waiting += [each for each in parts if _are_near(owner.__module__, each.__module__)]


def _of_class(cls: type) -> Iterator[tuple[str, Any]]:
    """The attributes of a class, with the functions of its methods and properties."""
    for name, value in vars(cls).items():
        parts = [getattr(value, part, None) for part in ("__func__", "fget", "fset")]
        functions = [part for part in parts if isinstance(part, FunctionType)]
        for each in functions or [value]:
            yield f"{cls.__qualname__}.{name}", each


def _reached(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The globals, defaults, closure and attributes of a function."""
    names = set(_names(function.__code__))
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        yield from _expanded(f"{function.__module__}.{name}", value, function.__module__, names)
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for i, value in enumerate(defaults):
        yield f"{function.__qualname__}, default {i}", value
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # an empty cell
            yield f"{function.__qualname__}, closure {name}", cell.cell_contents
    for name, value in vars(function).items():
        yield f"{function.__qualname__}.{name}", value


def _expanded(
    path: str, value: Any, user: str, names: set[str], depth: int = 3
) -> Iterator[tuple[str, Any]]:
    """A value, or those attributes of a near module that code with these names may use."""
    if not isinstance(value, ModuleType):
        yield path, value
    elif depth and _are_near(user, value.__name__):
        for name in names & vars(value).keys():
            part = vars(value)[name]
            yield from _expanded(f"{path}.{name}", part, value.__name__, names, depth - 1)


def _package(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _are_near(one: str | None, other: str | None) -> bool:
    """Whether two modules are of the same package, or files of the same folder."""
    if _package(one) == _package(other):
        return True
    files = [getattr(sys.modules.get(name or ""), "__file__", None) for name in (one, other)]
    return None not in files and len({Path(str(file)).parent for file in files}) == 1


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
