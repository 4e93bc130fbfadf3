"""RL Zoo's setting ``vec_env_wrapper``: wrappers between the environments and the policy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trpo_deploy.errors import ConfigError

_SB3 = re.compile(r"stable_baselines3\.common\.vec_env\.(?:\w+\.)?(\w+)")
_STACK = "VecFrameStack"
_WITHOUT_EFFECT = frozenset({"VecCheckNan", "VecMonitor", "VecVideoRecorder"})
"""Wrappers that change neither observations nor actions."""


def stacked_frames(setting: Any, config: Path) -> int:
    """Number of frames that the wrappers stack; 1 without a ``VecFrameStack``.

    Args:
        setting: A name, a mapping of a name to its arguments, or a list of these.
        config: The configuration, for messages.

    Raises:
        ConfigError: A wrapper is not known, or has arguments that are not known.
    """
    stacks = []
    for name, arguments in _wrappers(setting, config):
        known = _SB3.fullmatch(name)
        kind = known[1] if known else ""
        if kind == _STACK:
            stacks.append(_n_stack(arguments, config))
        elif kind not in _WITHOUT_EFFECT:
            raise ConfigError(
                f"{config} wraps the environments in {name}, whose effect on observations and "
                f"actions is not known; known are {_STACK} and {', '.join(sorted(_WITHOUT_EFFECT))}"
                " of Stable-Baselines3: if it has no effect, remove it from vec_env_wrapper"
            )
    if len(stacks) > 1:
        raise ConfigError(f"{config} stacks frames {len(stacks)} times; expected one {_STACK}")
    return stacks[0] if stacks else 1


def _wrappers(setting: Any, config: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for each in setting if isinstance(setting, list) else [setting]:
        if each is None:
            continue
        named = {each: None} if isinstance(each, str) else each
        pairs = list(named.items()) if isinstance(named, Mapping) else []
        known = len(pairs) == 1 and isinstance(pairs[0][1] or {}, Mapping)
        if not known or not isinstance(pairs[0][0], str):
            raise ConfigError(
                f"{config}: vec_env_wrapper={setting!r}: expected package.Class, or a list of "
                "names or of {package.Class: {argument: value}}"
            )
        yield pairs[0][0], pairs[0][1] or {}


def _n_stack(arguments: Mapping[str, Any], config: Path) -> int:
    n_stack = arguments.get("n_stack")
    unknown = {key: value for key, value in arguments.items() if key != "n_stack" and value}
    if unknown or isinstance(n_stack, bool) or not isinstance(n_stack, int) or n_stack < 1:
        raise ConfigError(
            f"{config}: {_STACK} with {dict(arguments)}: expected n_stack, an integer above zero, "
            "and no other argument"
        )
    return n_stack
