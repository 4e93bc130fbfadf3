"""Checks of single settings: type, range, choice."""

from __future__ import annotations

import difflib
import inspect
import math
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from trpo_deploy.errors import ConfigError

_RANGES: dict[str, tuple[float, float]] = {
    "gamma": (0.0, 1.0),
    "gae_lambda": (0.0, 1.0),
    "target_kl": (0.0, math.inf),
    "target_kl_end": (0.0, math.inf),
    "cg_damping": (0.0, math.inf),
    "line_search_shrinking_factor": (0.0, 1.0),
    "learning_rate_end": (0.0, math.inf),
    "critic_max_grad_norm": (0.0, math.inf),
    "n_critic_updates": (0, math.inf),
    "seed": (0, 2**32 - 1),
    "sde_sample_freq": (-1, math.inf),
    "clip_obs": (0.0, math.inf),
    "clip_reward": (0.0, math.inf),
    "epsilon": (0.0, math.inf),
}


_ENDS_LEFT_OUT = ("line_search_shrinking_factor",)


_MAY_BE_BELOW_ONE = ("sde_sample_freq", "seed", "n_critic_updates")


_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a mapping",
    type(None): "nothing",
}


def allowed_types(hint: Any) -> tuple[Any, ...]:
    """The plain types that a hint allows; mappings of all sorts are ``dict``."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    origins = [get_origin(member) or member for member in members]
    return tuple(dict if origin is Mapping else origin for origin in origins)


def check_type(name: str, value: Any, hint: Any) -> None:
    """A value has the type of its annotation, or a mistake shows hours later."""
    if get_origin(hint) is Literal:
        check_choice(name, value, get_args(hint))
        return
    kinds = allowed_types(hint)
    check_kind(name, value, kinds)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if not math.isfinite(value):
        raise ConfigError(f"{name}={value!r}: expected a finite number")
    if type(value) is int and name not in _MAY_BE_BELOW_ONE and int in kinds and value < 1:
        raise ConfigError(f"{name}={value!r}: expected a whole number above zero")
    check_range(name, value)


def check_range(name: str, value: Any) -> None:
    """Refuse a number outside the setting's range."""
    if name not in _RANGES:
        return
    low, high = _RANGES[name]
    if name in _ENDS_LEFT_OUT and not low < value < high:
        raise ConfigError(f"{name}={value!r}: expected a number between {low:g} and {high:g}")
    if not low <= value <= high:
        expected = f"a number from {low:g}" + ("" if math.isinf(high) else f" to {high:.10g}")
        raise ConfigError(f"{name}={value!r}: expected {expected}")


def check_kind(name: str, value: Any, kinds: tuple[Any, ...]) -> None:
    """Refuse a value whose type is not one of ``kinds``."""
    # A bool is an int to Python, and a mistake to people; a whole number is a number to both.
    fits = type(value) in kinds or (float in kinds and type(value) is int)
    if Any not in kinds and not fits:
        expected = " or ".join(_WORDS[kind] for kind in kinds if kind in _WORDS)
        raise ConfigError(f"{name}={value!r}: expected {expected}")


def check_arguments(
    setting: str, arguments: Mapping[str, Any], made: type, given: tuple[str, ...]
) -> None:
    """Names of keyword arguments are those of the constructor."""
    known = inspect.signature(made.__init__).parameters.keys() - set(given)  # type: ignore[misc]
    for name in arguments:
        if name not in known:
            raise ConfigError(f"{setting}: {unknown_name(name, known)}")


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Refuse a value that is not one of ``choices``."""
    choices = tuple(choices)
    if value not in choices:
        raise ConfigError(f"{name}={value!r}: expected one of {', '.join(map(str, choices))}")


def unknown_name(name: str, known: Iterable[str]) -> str:
    """A message for a name that is not known, with the nearest one that is."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
    return f"unknown setting {name!r}; {hint}"
