"""The state of a single environment: the attributes of its wrappers and its own.

If all attributes are numbers, text, arrays and random generators, they are the complete state.
A MuJoCo environment is complete with the arrays of its simulation. Any other object (a Box2D world,
a socket) may hold hidden state. Such an environment has no state here, and a resumed run starts new
episodes in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, MemberDescriptorType, ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.monitor import Monitor

from trpo_deploy.envs.environment import AnyEnv, layers_of
from trpo_deploy.train.codec import UnsupportedValueError, decode, encode
from trpo_deploy.train.vec_env.episode_monitor import EpisodeMonitor

# A step does not change these; the generators of spaces are saved separately.
_FIXED = (gymnasium.Space, EnvSpec, type, ModuleType, np.dtype)
_CONSTRUCTION = ("env", "_saved_kwargs")
"""A wrapper's constructor arguments."""
_MAX_ARRAY_BYTES = 1 << 24
"""A larger array is a data set, not state, and would be copied at every update."""


def environment_state(env: AnyEnv) -> bytes | None:
    """The state of an environment and its wrappers, or None if part of it is hidden."""
    try:
        # A view would be restored as a copy, which no longer changes with the original array.
        return encode([_layer_state(layer) for layer in layers_of(env)], allow_views=False)
    except UnsupportedValueError:
        return None


def restore_environment(env: AnyEnv, state: bytes) -> None:
    """Put an environment into a state that :func:`environment_state` returned.

    Args:
        env: An environment made with the same arguments and wrappers.
        state: The state.

    Raises:
        ValueError: The state belongs to an environment with other wrappers.
    """
    layers = list(layers_of(env))
    for layer, kept in zip(layers, _with_monitor_inside(layers, decode(state)), strict=True):
        if type(layer).__name__ != kept["name"]:
            raise ValueError(f"expected {kept['name']}, found {type(layer).__name__}")
        slots = _slots(layer, empty=True)
        for name, value in kept["attributes"].items():
            if name in slots:
                setattr(layer, name, value)
            else:
                vars(layer)[name] = value
        for space, generator in zip(_spaces(layer), kept["generators"], strict=True):
            space._np_random = generator
        if kept["simulation"] is not None:
            _restore_simulation(layer, kept["simulation"])


def _with_monitor_inside(layers: list[AnyEnv], states: list[Any]) -> list[Any]:
    """The states in the order of the layers: ``Monitor`` was outermost in earlier versions."""
    places = [i for i, layer in enumerate(layers) if isinstance(layer, EpisodeMonitor)]
    if not places or states[0]["name"] != Monitor.__name__:
        return states
    monitor = states[0] | {"name": EpisodeMonitor.__name__}
    inside = states[1:]
    return [*inside[: places[0]], monitor, *inside[places[0] :]]


def _layer_state(layer: AnyEnv) -> dict[str, Any]:
    construction = _CONSTRUCTION if isinstance(layer, gymnasium.Wrapper) else ()
    attributes = {name: value for name, value in vars(layer).items() if name not in construction}
    attributes |= {name: getattr(layer, name) for name in _slots(layer)}
    simulation = None
    if _is_mujoco(layer):
        for name in ("model", "data", "mujoco_renderer"):
            attributes.pop(name)
        simulation = _simulation(layer)
    kept = {name: value for name, value in attributes.items() if not _is_fixed(value)}
    for value in kept.values():
        if isinstance(value, np.ndarray) and value.nbytes > _MAX_ARRAY_BYTES:
            raise UnsupportedValueError(f"an array of {value.nbytes} bytes")
    return {
        "name": type(layer).__name__,
        "attributes": kept,
        "generators": [space._np_random for space in _spaces(layer)],
        "simulation": simulation,
    }


def _slots(layer: AnyEnv, *, empty: bool = False) -> list[str]:
    """The names of a layer's ``__slots__``, of those that have a value unless ``empty``."""
    members = {
        name
        for cls in type(layer).__mro__
        for name, value in vars(cls).items()
        if isinstance(value, MemberDescriptorType)
    }
    return sorted(name for name in members if empty or hasattr(layer, name))


def _is_fixed(value: Any) -> bool:
    if isinstance(value, FunctionType):
        # A closure may hold state. The closures of Gymnasium's wrappers and ours do not.
        known = (value.__module__ or "").startswith(("gymnasium.", "trpo_deploy."))
        return known or value.__closure__ is None
    return isinstance(value, _FIXED)


def _spaces(layer: AnyEnv) -> Iterator[Any]:
    """The spaces among a layer's attributes, and their parts: each has a random generator."""
    slots = [getattr(layer, name) for name in _slots(layer)]
    for value in (*vars(layer).values(), *slots):
        if isinstance(value, gymnasium.Space):
            yield from _with_parts(value)


def _with_parts(space: Any) -> Iterator[Any]:
    yield space
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        for part in space.values() if isinstance(space, spaces.Dict) else space:
            yield from _with_parts(part)


def _is_mujoco(env: Any) -> bool:
    # Only Gymnasium's own: others may change the model during an episode, which is not saved.
    return type(env).__module__.startswith("gymnasium.envs.mujoco.")


def _simulation(env: Any) -> dict[str, Any]:
    """The time, and all arrays of ``mjData`` whose size the model fixes.

    This is more than MuJoCo's state. Rewards and observations read derived values (``xpos``,
    ``cfrc_ext``) before the next step computes them again.
    """
    return {"time": float(env.data.time), **{n: a.copy() for n, a in _arrays(env.data)}}


def _arrays(data: Any) -> Iterator[tuple[str, Any]]:
    # The length of efc_* arrays is the number of constraints; each step allocates them again.
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
