"""Wrappers that a configuration puts around its environment, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, TransformObservation

from trpo_deploy.errors import ConfigError, SpaceError

AnyEnv = gymnasium.Env[Any, Any]


def wrapper_list(env_wrapper: Any) -> list[dict[str, dict[str, Any]]]:
    """RL Zoo's three forms as one: ``[{dotted.name: {argument: value}}, ...]``.

    Args:
        env_wrapper: a dotted name, a mapping of names to their arguments, a list of either, or
            None.

    Raises:
        ConfigError: something else.
    """
    if env_wrapper is None:
        return []
    if isinstance(env_wrapper, str):
        return [{env_wrapper: {}}]
    if isinstance(env_wrapper, Mapping):
        if all(isinstance(each, Mapping) for each in env_wrapper.values() if each is not None):
            return [{name: dict(arguments or {})} for name, arguments in env_wrapper.items()]
    elif isinstance(env_wrapper, Sequence):
        return [wrapper for item in env_wrapper for wrapper in wrapper_list(item)]
    raise ConfigError(
        f"env_wrapper={env_wrapper!r}: expected a dotted name, or a list of names or of "
        "{name: {argument: value}}"
    )


def wrapper_classes(env_wrapper: Any) -> tuple[str, ...]:
    """The classes that :func:`wrap` would import, as ``package.module:Class``."""
    names = [name for wrapper in wrapper_list(env_wrapper) for name in wrapper]
    return tuple(":".join(name.rsplit(".", 1)) for name in names)


def wrap(env: AnyEnv, env_wrapper: Any, frame_stack: int | None) -> AnyEnv:
    """Put wrappers around an environment, the first one innermost.

    Args:
        env: the environment.
        env_wrapper: see :func:`wrapper_list`.
        frame_stack: how many observations in a row are one, or None.

    Raises:
        ConfigError: a name stands for no ``gymnasium.Wrapper``, or its arguments do not fit.
        SpaceError: frames that cannot be stacked.
    """
    for wrapper in wrapper_list(env_wrapper):
        for name, arguments in wrapper.items():
            made: type[Any] = import_class("env_wrapper", name, gymnasium.Wrapper)
            try:
                env = made(env, **arguments)
            except (TypeError, ValueError, AssertionError) as error:
                raise ConfigError(f"env_wrapper {name} with {arguments}: {error}") from error
    return env if frame_stack is None else _stack_frames(env, frame_stack)


def _stack_frames(env: AnyEnv, n: int) -> AnyEnv:
    """As SB3's ``VecFrameStack``: along the channels, zeros before an episode's start."""
    space = env.observation_space
    if not isinstance(space, spaces.Box):
        raise SpaceError(f"frame_stack takes Box observations, not {space}; leave it out")
    # Images are channel-first only where the first axis is the shortest.
    image = space.dtype == np.uint8 and len(space.shape) == 3
    axis = 0 if image and np.argmin(space.shape) == 0 else -1

    def side_by_side(frames: Any) -> Any:
        return np.concatenate(list(frames), axis=axis)

    stacked = spaces.Box(
        np.concatenate([space.low] * n, axis=axis),
        np.concatenate([space.high] * n, axis=axis),
        dtype=space.dtype,
    )
    return TransformObservation(
        FrameStackObservation(env, n, padding_type="zero"), side_by_side, stacked
    )


def import_class(setting: str, name: str, kind: type) -> Any:
    """The class of a dotted name, in a package that is installed.

    Raises:
        ConfigError: there is none, or it does not descend from ``kind``.
    """
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute) if module else None
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{setting}: {name} cannot be imported ({error})") from error
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ConfigError(
            f"{setting}={name!r}: expected the dotted name of a {kind.__module__.split('.')[0]} "
            f"{kind.__name__}, as package.module.Class"
        )
    return found
