"""The state of one environment: its attributes and its wrappers', as plain values.

Numbers, text, arrays and random generators describe the state of an environment completely, and
so do the arrays of a MuJoCo simulation. Any other object (a Box2D world, a socket) may hold hidden
state. Such an environment has no state here, and a resumed run starts new episodes in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from trpo_deploy.train.codec import NotPlainError, dump_plain, load_plain

AnyEnv = gymnasium.Env[Any, Any]

# Stepping does not change these, except the random generators of spaces.
_FIXED = (gymnasium.Space, EnvSpec, type, ModuleType, np.dtype)
_CONSTRUCTION = ("env", "_saved_kwargs")
"""Attributes that a wrapper's constructor sets."""
_MAX_ARRAY_BYTES = 1 << 24
"""A larger array is a data set instead of state; it would be copied in each update."""


def environment_state(env: AnyEnv) -> bytes | None:
    """The state of an environment and its wrappers, or None if it may have hidden state."""
    try:
        # A view that is restored as a copy would no longer change with its base.
        return dump_plain([_layer_state(layer) for layer in _layers(env)], views=False)
    except NotPlainError:
        return None


def restore_environment(env: AnyEnv, state: bytes) -> None:
    """Restore the state of another environment that was made in the same way.

    Args:
        env: The environment, with its wrappers.
        state: State of the other environment, from :func:`environment_state`.

    Raises:
        ValueError: The wrappers differ, or the state cannot be read.
    """
    for layer, kept in zip(_layers(env), load_plain(state), strict=True):
        if type(layer).__name__ != kept["name"]:
            raise ValueError(f"found {type(layer).__name__}, expected {kept['name']}")
        vars(layer).update(kept["attributes"])
        for space, generator in zip(_spaces(layer), kept["generators"], strict=True):
            space._np_random = generator
        if kept["simulation"] is not None:
            _restore_simulation(layer, kept["simulation"])


def _layers(env: AnyEnv) -> Iterator[AnyEnv]:
    """From the outermost wrapper to the environment itself."""
    yield env
    while isinstance(env, gymnasium.Wrapper):
        env = env.env
        yield env


def _layer_state(layer: AnyEnv) -> dict[str, Any]:
    made_of = _CONSTRUCTION if isinstance(layer, gymnasium.Wrapper) else ()
    attributes = {name: value for name, value in vars(layer).items() if name not in made_of}
    simulation = None
    if _is_mujoco(layer):
        for name in ("model", "data", "mujoco_renderer"):
            attributes.pop(name)
        simulation = _simulation(layer)
    kept = {name: value for name, value in attributes.items() if not _is_fixed(value)}
    for value in kept.values():
        if isinstance(value, np.ndarray) and value.nbytes > _MAX_ARRAY_BYTES:
            raise NotPlainError(f"an array of {value.nbytes} bytes")
    return {
        "name": type(layer).__name__,
        "attributes": kept,
        "generators": [space._np_random for space in _spaces(layer)],
        "simulation": simulation,
    }


def _is_fixed(value: Any) -> bool:
    if isinstance(value, FunctionType):
        # A closure may hold state; in the wrappers of Gymnasium and this package it does not.
        own = (value.__module__ or "").startswith(("gymnasium.", "trpo_deploy."))
        return own or value.__closure__ is None
    return isinstance(value, _FIXED)


def _spaces(layer: AnyEnv) -> Iterator[Any]:
    """The spaces among a layer's attributes and their parts; each has a random generator."""
    for value in vars(layer).values():
        if isinstance(value, gymnasium.Space):
            yield from _with_parts(value)


def _with_parts(space: Any) -> Iterator[Any]:
    yield space
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        for part in space.values() if isinstance(space, spaces.Dict) else space:
            yield from _with_parts(part)


def _is_mujoco(env: Any) -> bool:
    # Only Gymnasium's: others may also change the model, which is not saved.
    return type(env).__module__.startswith("gymnasium.envs.mujoco.")


def _simulation(env: Any) -> dict[str, Any]:
    """All arrays of ``mjData`` whose size the model fixes, and the time.

    MuJoCo's own state is not enough: rewards and observations read derived arrays (``xpos``,
    ``cfrc_ext``) before the next step computes them again.
    """
    return {"time": float(env.data.time), **{n: a.copy() for n, a in _arrays(env.data)}}


def _arrays(data: Any) -> Iterator[tuple[str, Any]]:
    # efc_* have the size of the active constraints, and each step computes them again.
    for name in dir(data):
        if not name.startswith(("_", "efc_", "iefc_")):
            value = getattr(data, name)
            if isinstance(value, np.ndarray) and value.size and value.flags.writeable:
                yield name, value


def _restore_simulation(env: Any, simulation: dict[str, Any]) -> None:
    env.data.time = simulation["time"]
    for name, value in _arrays(env.data):
        if name in simulation and simulation[name].shape == value.shape:
            value[...] = simulation[name]
