"""The Gymnasium wrappers of a model's environment that belong into the exported file.

These are pure functions of one observation or of one action, and their numbers can be read. The
reference calls the wrappers themselves; the exporter reads them as arrays. A certificate thus
compares the two.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import (
    ClipAction,
    DtypeObservation,
    FlattenObservation,
    NormalizeObservation,
    RescaleAction,
    RescaleObservation,
    ReshapeObservation,
)

from trpo_deploy.spec.spaces import Array

ObservationWrapper: TypeAlias = (
    NormalizeObservation
    | RescaleObservation
    | DtypeObservation
    | FlattenObservation
    | ReshapeObservation
)
ActionWrapper: TypeAlias = RescaleAction | ClipAction


@dataclass(frozen=True, eq=False)
class InsideWrappers:
    """Wrappers that the file contains, each list from the environment outwards.

    Their spaces are Boxes. Only those that change neither values nor dtype, and those that convert
    the dtype, may take integers.
    """

    observation: tuple[ObservationWrapper, ...] = ()
    action: tuple[ActionWrapper, ...] = ()

    @classmethod
    def of(cls, wrappers: list[gymnasium.Wrapper[Any, Any, Any, Any]]) -> InsideWrappers:
        """Take wrappers for which :func:`can_be_inside` is true, from the environment outwards."""
        return cls(
            tuple(_frozen(each) for each in wrappers if isinstance(each, ObservationWrapper)),
            tuple(each for each in wrappers if isinstance(each, ActionWrapper)),
        )

    def observe(self, frames: Array) -> Array:
        """The wrapped observations for a batch of raw ones."""
        for wrapper in self.observation:
            frames = np.stack([wrapper.observation(frame) for frame in frames])
        return frames

    def act(self, actions: Array) -> Array:
        """The environment's actions for a batch of the policy's."""
        for wrapper in reversed(self.action):
            actions = np.stack([wrapper.action(action) for action in actions])
        return actions

    @property
    def scale(self) -> Array:
        """Factor from the policy's action to the environment's, float64, of the action's shape."""
        return self._scale_and_shift[0]

    @property
    def shift(self) -> Array:
        """What is added after the factor, float64, of the action's shape."""
        return self._scale_and_shift[1]

    @property
    def _scale_and_shift(self) -> tuple[Array, Array]:
        scale: Array = np.ones(())
        shift: Array = np.zeros(())
        for wrapper in reversed(self.action):
            if isinstance(wrapper, RescaleAction):
                factor, offset = affine(_box(wrapper.action_space), _box(wrapper.env.action_space))
                scale, shift = factor * scale, factor * shift + offset
        return scale, shift


NO_WRAPPERS = InsideWrappers()


def can_be_inside(wrapper: object) -> bool:
    """Whether a wrapper is a known pure function whose numbers can be read.

    By its exact class: a subclass may compute something else.
    """
    if type(wrapper) is DtypeObservation:
        return _is_float(wrapper.observation_space) and _is_number(wrapper.env.observation_space)
    if type(wrapper) in (FlattenObservation, ReshapeObservation):
        assert isinstance(wrapper, gymnasium.Wrapper)
        return _is_number(wrapper.env.observation_space)
    if type(wrapper) is NormalizeObservation:
        return _is_float(wrapper.env.observation_space)
    if type(wrapper) is RescaleObservation:
        return _is_invertible(wrapper.env.observation_space, wrapper.observation_space)
    if type(wrapper) is RescaleAction:
        return _is_invertible(wrapper.env.action_space, wrapper.action_space)
    return type(wrapper) is ClipAction and _is_float(wrapper.env.action_space)


def affine(source: spaces.Box, target: spaces.Box) -> tuple[Array, Array]:
    """Factor and offset that map one Box with finite bounds onto another, float64."""
    low, high = source.low.astype(np.float64), source.high.astype(np.float64)
    new_low, new_high = target.low.astype(np.float64), target.high.astype(np.float64)
    factor: Array = (new_high - new_low) / (high - low)
    return factor, new_low - factor * low


def rescaling(wrapper: RescaleObservation) -> tuple[Array, Array]:
    """Factor and offset of a wrapper, rounded to its observations' dtype as Gymnasium does."""
    target = _box(wrapper.observation_space)
    factor, offset = affine(_box(wrapper.env.observation_space), target)
    rounded = (each.astype(target.dtype).astype(np.float64) for each in (factor, offset))
    return next(rounded), next(rounded)


def same_wrappers(first: InsideWrappers, second: InsideWrappers) -> bool:
    """Whether two environments' wrappers compute the same."""
    pairs = [(first.observation, second.observation), (first.action, second.action)]
    return all(
        len(ones) == len(others)
        and all(_is_same(one, other) for one, other in zip(ones, others, strict=True))
        for ones, others in pairs
    )


def _is_same(one: ObservationWrapper | ActionWrapper, other: object) -> bool:
    if isinstance(one, NormalizeObservation) and isinstance(other, NormalizeObservation):
        mine, its = one.obs_rms, other.obs_rms
        return (
            np.array_equal(mine.mean, its.mean)
            and np.array_equal(mine.var, its.var)
            and one.epsilon == other.epsilon
        )
    return (
        type(one) is type(other)
        and isinstance(other, gymnasium.Wrapper)
        and (one.observation_space, one.action_space, one.env.observation_space)
        == (other.observation_space, other.action_space, other.env.observation_space)
        and one.env.action_space == other.env.action_space
    )


def _frozen(wrapper: ObservationWrapper) -> ObservationWrapper:
    """The wrapper with its statistics as they are now; the model's own one is not touched."""
    if isinstance(wrapper, NormalizeObservation):
        wrapper = copy.copy(wrapper)
        wrapper.obs_rms = copy.deepcopy(wrapper.obs_rms)
        wrapper.update_running_mean = False
    return wrapper


def _box(space: spaces.Space[Any]) -> spaces.Box:
    assert isinstance(space, spaces.Box)
    return space


def _is_number(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and space.dtype.kind in "iuf"


def _is_float(space: spaces.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and space.dtype in (np.float32, np.float64)


def _is_invertible(source: spaces.Space[Any], target: spaces.Space[Any]) -> bool:
    if not (_is_float(source) and _is_float(target)):
        return False
    bounds = [bound for space in map(_box, (source, target)) for bound in (space.low, space.high)]
    return bool(
        np.isfinite(bounds).all()
        and (bounds[0] < bounds[1]).all()
        and (bounds[2] < bounds[3]).all()
    )
