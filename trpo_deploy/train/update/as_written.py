"""Whether an object still computes what its class says."""

from __future__ import annotations

import os
from types import FunctionType, GenericAlias
from typing import Any

import stable_baselines3
import torch

_LIBRARIES = tuple(f"{each.__path__[0]}{os.sep}" for each in (stable_baselines3, torch))
_UNCALLED = ("__annotate__", "__annotate_func__")
"""What Python itself adds to classes with annotations."""


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

    Methods of torch's own classes are left out: callers check those that they compute.

    Args:
        instance: The object.
        classes: The classes whose methods the caller computes.
        but: Names of the methods that a subclass may replace.
    """
    cls: Any = type(instance)
    known = next((each for each in cls.__mro__ if each in classes), None)
    if known is None or any(callable(getattr(cls, name, None)) for name in vars(instance)):
        return False
    if not _replaced(cls, known) <= but:
        return False
    sb3s = [each for each in cls.__mro__ if each.__module__.startswith("stable_baselines3.")]
    return all(all(map(is_from_library, vars(each).values())) for each in sb3s)


def is_from_library(attribute: Any) -> bool:
    """Whether a class attribute has no code, or code of Stable-Baselines3 or torch.

    The code's file tells: ``functools.wraps`` and mocks copy a method's name and module.
    """
    if type(attribute) is FunctionType:  # most are
        return attribute.__code__.co_filename.startswith(_LIBRARIES)
    if isinstance(attribute, property):
        attribute = attribute.fget
    elif isinstance(attribute, (classmethod, staticmethod)):
        attribute = attribute.__func__
    if not callable(attribute) or isinstance(attribute, (type, GenericAlias)):
        return True
    code = getattr(attribute, "__code__", None)
    return code is not None and code.co_filename.startswith(_LIBRARIES)


def _replaced(cls: type, known: type) -> frozenset[str]:
    """Names of the methods and properties of ``known`` that the bases of ``cls`` replace."""
    others = [each for each in cls.__mro__ if each not in known.__mro__]
    return frozenset(
        name
        for each in others
        for name in vars(each)
        if name not in _UNCALLED and _is_called(getattr(known, name, None))
    )


def _is_called(attribute: Any) -> bool:
    return callable(attribute) or isinstance(attribute, property)
