"""Where a single environment stands: its wrappers' and its own attributes, as plain values.

An environment whose attributes are numbers, text, arrays and random generators is wholly known
by them, and so is one of MuJoCo by its simulation's arrays. Any other object (a Box2D world, a
socket) may hold state that cannot be seen: such an environment has no state here, and a
resumed run starts new episodes in it.
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

# What stepping does not change, apart from the generators of spaces.
_FIXED = (gymnasium.Space, EnvSpec, type, ModuleType, np.dtype)
_CONSTRUCTION = ("env", "_saved_kwargs")
"""What a wrapper was made of."""
_MAX_ARRAY_BYTES = 1 << 24
"""A larger array is a data set and no state, and would be copied at each update."""


def environment_state(env: AnyEnv) -> bytes | None:
    """The state of an environment and its wrappers, or None if there is more than can be seen."""
    try:
        # A view that came back as a copy would no longer move with what it is a view of.
        return dump_plain([_layer_state(layer) for layer in _layers(env)], views=False)
    except NotPlainError:
        return None


def restore_environment(env: AnyEnv, state: bytes) -> None:
    """Put an environment, made as the other one was, where the other one stood."""
    for layer, kept in zip(_layers(env), load_plain(state), strict=True):
        if type(layer).__name__ != kept["name"]:
            raise ValueError(f"{type(layer).__name__} was {kept['name']}")
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
        # What a function closes over may change; in Gymnasium's wrappers and ours it does not.
        own = (value.__module__ or "").startswith(("gymnasium.", "trpo_deploy."))
        return own or value.__closure__ is None
    return isinstance(value, _FIXED)


def _spaces(layer: AnyEnv) -> Iterator[Any]:
    """The spaces among a layer's attributes, and those within them: each can draw samples."""
    for value in vars(layer).values():
        if isinstance(value, gymnasium.Space):
            yield from _with_parts(value)


def _with_parts(space: Any) -> Iterator[Any]:
    yield space
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        for part in space.values() if isinstance(space, spaces.Dict) else space:
            yield from _with_parts(part)


def _is_mujoco(env: Any) -> bool:
    # Gymnasium's own only: others may change the model too, which is not looked at here.
    return type(env).__module__.startswith("gymnasium.envs.mujoco.")


def _simulation(env: Any) -> dict[str, Any]:
    """All arrays of ``mjData`` with a size that the model fixes, and the time.

    More than MuJoCo's own state: what a step derives from it (``xpos``, ``cfrc_ext``) is read
    by rewards and observations before the next step derives it anew.
    """
    return {"time": float(env.data.time), **{n: a.copy() for n, a in _arrays(env.data)}}


def _arrays(data: Any) -> Iterator[tuple[str, Any]]:
    # efc_* are as long as there are constraints, and are made anew in each step.
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
