"""Whether an object still computes what its class says."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def is_as_written(instance: object, *classes: type) -> bool:
    """Whether an instance is of one of these classes, and nobody replaced one of its methods.

    Code that computes the same as a class without calling its methods asks this first. A method can
    be replaced in a subclass, on the instance, or in Stable-Baselines3's class itself.

    Args:
        instance: The object.
        classes: The classes whose methods the caller computes; their subclasses do not count.
    """
    return type(instance) in classes and computes_as(instance, *classes)


def computes_as(instance: object, *classes: type, but: frozenset[str] = frozenset()) -> bool:
    """Like :func:`is_as_written`, for subclasses too, which may replace some of the methods.

    Args:
        instance: The object.
        classes: The classes whose methods the caller computes.
        but: Names of the methods that a subclass may replace.
    """
    cls: Any = type(instance)
    known = next((each for each in cls.__mro__ if each in classes), None)
    if known is None or not _methods(cls).isdisjoint(vars(instance)):
        return False
    if not _replaced(cls, known) <= but:
        return False
    # Torch replaces methods of its own classes, so they are left out.
    sb3s = [each for each in cls.__mro__ if each.__module__.startswith("stable_baselines3.")]
    return not any(
        callable(value) and getattr(value, "__module__", None) != each.__module__
        for each in sb3s
        for value in vars(each).values()
    )


@lru_cache(maxsize=64)
def _replaced(cls: type, known: type) -> frozenset[str]:
    """Names of the methods and properties that the bases of ``cls`` replace in ``known``."""
    others = [each for each in cls.__mro__ if each not in known.__mro__]
    return frozenset(
        name
        for each in others
        for name, value in vars(each).items()
        if hasattr(known, name) and (callable(value) or isinstance(value, (classmethod, property)))
    )


@lru_cache(maxsize=64)
def _methods(cls: type) -> frozenset[str]:
    return frozenset(name for name in dir(cls) if callable(getattr(cls, name, None)))
