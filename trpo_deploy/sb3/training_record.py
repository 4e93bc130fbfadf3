"""What Stable-Baselines3 keeps of a training: its last observations and episodes.

SB3 saves these attributes with every model, so they witness the training independently of the
run's configuration and of the environment that is installed now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from trpo_deploy.errors import PolicyZipError
from trpo_deploy.spec.policy_spec import OBS, Inputs
from trpo_deploy.spec.spaces import Array

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class TrainingRecord:
    """What a model kept of its training. Nothing is known of a model that was never trained."""

    last_observation: Inputs | None = None
    """The last observations that the policy was given, behind all vec-env wrappers: an array
    ``(n_envs, ...)`` for each key; the key is ``"obs"`` for a space without keys."""
    last_original_observation: Inputs | None = None
    """The observations that ``VecNormalize`` was given at the last reset by ``learn``. ``None`` if
    the training had no ``VecNormalize``. They are of an earlier step than ``last_observation``."""
    episode_returns: Array | None = None
    """Returns of the last training episodes, with drawn actions, oldest first, ``(episodes,)``."""
    n_envs: int | None = None
    """Number of environments side by side."""
    timesteps: int | None = None
    """Number of steps of the training, all environments together."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Why an entry could not be read, by the entry's name."""

    @property
    def was_trained(self) -> bool:
        """Whether the model kept an observation, and so also whether it had a normaliser."""
        return self.last_observation is not None and "_last_original_obs" not in self.unreadable


def read_training_record(get: Callable[[str], object]) -> TrainingRecord:
    """Read the record from a model's attributes or from the entries of a zip.

    Entries that are missing, damaged or of an unknown form are left out and listed as unreadable.

    Args:
        get: Returns the value of an attribute; ``None`` if there is none. May raise
            ``PolicyZipError``.
    """
    unreadable: dict[str, str] = {}

    def read(name: str, convert: Callable[[Any], _T]) -> _T | None:
        try:
            value = get(name)
            return None if value is None else convert(value)
        except PolicyZipError as error:
            unreadable[name] = str(error)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            unreadable[name] = f"unknown form ({error!r})"
        return None

    return TrainingRecord(
        last_observation=read("_last_obs", _observations),
        last_original_observation=read("_last_original_obs", _observations),
        episode_returns=read("ep_info_buffer", _returns),
        n_envs=read("n_envs", _count),
        timesteps=read("num_timesteps", _count),
        unreadable=unreadable,
    )


def _observations(value: Any) -> Inputs:
    arrays = dict(value) if isinstance(value, Mapping) else {OBS: value}
    for name, array in arrays.items():
        if not isinstance(name, str) or not isinstance(array, np.ndarray) or array.ndim == 0:
            raise TypeError(f"{name!r} is {type(array).__name__}, expected a batch of observations")
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name!r} has the dtype {array.dtype}")
    return arrays


def _returns(value: Any) -> Array:
    """Returns from ``Monitor``'s episodes: ``{"r": return, "l": length, "t": seconds}``."""
    if isinstance(value, Mapping) or not isinstance(value, Sequence):
        raise TypeError(f"{type(value).__name__}, expected a list of episodes")
    returns = np.array([np.asarray(episode["r"], np.float64).item() for episode in value])
    if not np.isfinite(returns).all():
        raise ValueError("a return is not finite")
    return returns


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r}, expected a number")
    return value
