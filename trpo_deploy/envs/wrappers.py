"""Wrappers around an environment, by name, and frame stacking."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, TransformObservation

from trpo_deploy.class_path import class_list, import_class
from trpo_deploy.errors import ConfigError, SpaceError

AnyEnv = gymnasium.Env[Any, Any]


def wrapper_list(env_wrapper: Any) -> list[dict[str, dict[str, Any]]]:
    """The wrappers as ``[{"module:Class": {argument: value}}, ...]``.

    Args:
        env_wrapper: See :func:`~trpo_deploy.class_path.class_list`.

    Raises:
        ConfigError: The value has another form.
    """
    return [{name: arguments} for name, arguments in class_list("env_wrapper", env_wrapper)]


def wrapper_classes(env_wrapper: Any) -> tuple[str, ...]:
    """The classes that :func:`wrap` would import, as ``module:Class``."""
    return tuple(name for wrapper in wrapper_list(env_wrapper) for name in wrapper)


def wrap(env: AnyEnv, env_wrapper: Any, frame_stack: int | None) -> AnyEnv:
    """Wrap an environment; the first wrapper is the innermost.

    Args:
        env: The environment.
        env_wrapper: See :func:`wrapper_list`.
        frame_stack: Number of consecutive observations to stack, or None.

    Raises:
        ConfigError: A name is not a ``gymnasium.Wrapper``, or its arguments do not fit.
        SpaceError: The observations cannot be stacked.
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
    """Stack frames as SB3's ``VecFrameStack``: along the channels, padded with zeros at a reset."""
    space = env.observation_space
    if not isinstance(space, spaces.Box):
        raise SpaceError(f"frame_stack needs Box observations, not {space}; omit it")
    # As SB3's is_image_space and is_image_space_channels_first; playing a file needs no SB3.
    image = space.dtype == np.uint8 and len(space.shape) == 3
    image = image and not space.low.any() and bool((space.high == 255).all())
    axis = 0 if image and np.argmin(space.shape) == 0 else -1

    def concatenate(frames: Any) -> Any:
        return np.concatenate(list(frames), axis=axis)

    stacked = spaces.Box(
        np.concatenate([space.low] * n, axis=axis),
        np.concatenate([space.high] * n, axis=axis),
        dtype=space.dtype,
    )
    return TransformObservation(
        FrameStackObservation(env, n, padding_type="zero"), concatenate, stacked
    )
