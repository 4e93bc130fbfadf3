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
    cls: Any = type(instance)
    if cls not in classes or not _methods(cls).isdisjoint(vars(instance)):
        return False
    # Torch replaces methods of its own classes, so they are left out.
    sb3s = [each for each in cls.__mro__ if each.__module__.startswith("stable_baselines3.")]
    return not any(
        callable(value) and getattr(value, "__module__", None) != each.__module__
        for each in sb3s
        for value in vars(each).values()
    )


@lru_cache(maxsize=64)
def _methods(cls: type) -> frozenset[str]:
    return frozenset(name for name in dir(cls) if callable(getattr(cls, name, None)))
