"""Checks of a single setting: its type, its range, its name. All raise ConfigError."""

from __future__ import annotations

import difflib
import inspect
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from trpo_deploy.errors import ConfigError


@dataclass(frozen=True)
class _Range:
    low: float
    high: float = math.inf
    exclusive: bool = False
    """Whether the bounds themselves are excluded."""

    def check(self, name: str, value: float) -> None:
        inside = self.low < value < self.high if self.exclusive else self.low <= value <= self.high
        if not inside:
            raise ConfigError(f"{name}={value!r}: expected {self}")

    def __str__(self) -> str:
        if self.exclusive:
            return f"a number between {self.low:g} and {self.high:g}"
        return f"a number from {self.low:g}" + (
            "" if math.isinf(self.high) else f" to {self.high:.10g}"
        )


_RANGES = {
    "gamma": _Range(0, 1),
    "gae_lambda": _Range(0, 1),
    "gamma_end": _Range(0, 1),
    "gae_lambda_end": _Range(0, 1),
    "target_kl": _Range(0),
    "target_kl_end": _Range(0),
    "cg_damping": _Range(0),
    "line_search_shrinking_factor": _Range(0, 1, exclusive=True),
    "learning_rate_end": _Range(0),
    "critic_max_grad_norm": _Range(0),
    "n_critic_updates": _Range(0),
    "seed": _Range(0, 2**32 - 1),
    "sde_sample_freq": _Range(-1),
    "clip_obs": _Range(0),
    "clip_reward": _Range(0),
    "epsilon": _Range(0),
}
_COUNT = _Range(1)
"""Range of all other whole numbers: they count steps, episodes, samples or environments."""

_TYPE_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    type(None): "null",
}


def allowed_types(hint: Any) -> tuple[Any, ...]:
    """The types that an annotation allows; every mapping is ``dict``."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    origins = [get_origin(member) or member for member in members]
    return tuple(dict if origin is Mapping else origin for origin in origins)


def check_setting(name: str, value: Any, hint: Any) -> None:
    """Check a value by its annotation and its range, before the run starts."""
    if get_origin(hint) is Literal:
        check_choice(name, value, get_args(hint))
        return
    allowed = allowed_types(hint)
    check_type(name, value, allowed)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if not math.isfinite(value):
        raise ConfigError(f"{name}={value!r}: expected a finite number")
    if int in allowed and name not in _RANGES:
        _COUNT.check(name, value)
    check_range(name, value)


def check_type(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Check the type of a value."""
    # bool is a subclass of int in Python, but 'n_steps: true' is a mistake.
    fits = type(value) in allowed or (float in allowed and type(value) is int)
    if Any not in allowed and not fits:
        expected = " or ".join(_TYPE_NAMES[each] for each in allowed if each in _TYPE_NAMES)
        raise ConfigError(f"{name}={value!r}: expected {expected}")


def check_range(name: str, value: Any) -> None:
    """Check the range of a number; a name without a range accepts every value."""
    if name in _RANGES:
        _RANGES[name].check(name, value)


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Check that a value is one of ``choices``."""
    choices = tuple(choices)
    if value not in choices:
        raise ConfigError(f"{name}={value!r}: expected one of {', '.join(map(str, choices))}")


def check_arguments(
    setting: str, arguments: Mapping[str, Any], cls: type, supplied: tuple[str, ...]
) -> None:
    """Check the names of keyword arguments against a constructor.

    Args:
        setting: Name of the setting, for messages.
        arguments: The keyword arguments.
        cls: The class that they are for.
        supplied: Parameters that the caller of the constructor supplies.
    """
    known = inspect.signature(cls).parameters.keys() - set(supplied)
    for name in arguments:
        if name not in known:
            raise ConfigError(f"{setting}: {unknown_name(name, known)}")


def unknown_name(name: str, known: Iterable[str]) -> str:
    """The message for an unknown name, with the most similar known one."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
    return f"unknown setting {name!r}; {hint}"
