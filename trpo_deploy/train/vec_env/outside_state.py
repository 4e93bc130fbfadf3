"""State that an environment keeps outside of its attributes.

A checkpoint has the attributes of an environment. Its code may also change class attributes, module
globals, default arguments and closures, which other environments share. They cannot be restored for
one environment, but a change can be noticed: a run that resumes then says that it is not exact.
"""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import suppress
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch

from trpo_deploy.envs.environment import AnyEnv, layers_of

_LIBRARIES = ("gymnasium", "stable_baselines3", "trpo_deploy", "typing", "abc", "builtins")
"""Their classes keep no such state."""
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
_MAX_BYTES = 1 << 20
"""A larger value is a data set."""


def outside_state(env: AnyEnv) -> dict[str, int] | None:
    """Hashes of the values outside of its attributes that the code of an environment uses, by name.

    Returns:
        The hashes, for a comparison in this process; None if one of the values is a random
        generator, which changes whenever it is used.
    """
    found = {}
    for layer in layers_of(env):
        for name, value in _outside_values(type(layer)):
            if isinstance(value, _GENERATORS):
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
    """Class attributes, and the values that the methods of a class and their helpers reach."""
    functions: list[FunctionType] = []
    for each in cls.__mro__:
        if each.__module__.partition(".")[0] in _LIBRARIES:
            continue
        for name, value in vars(each).items():
            parts = [getattr(value, part, None) for part in ("__func__", "fget", "fset")]
            methods = [part for part in (value, *parts) if isinstance(part, FunctionType)]
            functions += methods
            if not methods:
                yield f"{each.__qualname__}.{name}", value
    seen = set()
    while functions:
        function = functions.pop()
        if function in seen:
            continue
        seen.add(function)
        for name, value in _reached(function):
            if not isinstance(value, FunctionType):
                yield name, value
            elif value.__module__ == cls.__module__:
                functions.append(value)


def _reached(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The globals, defaults and closure of a function."""
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield f"{function.__module__}.{name}", function.__globals__[name]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for i, value in enumerate(defaults):
        yield f"{function.__qualname__}, default {i}", value
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # an empty cell
            yield f"{function.__qualname__}, closure {name}", cell.cell_contents


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
