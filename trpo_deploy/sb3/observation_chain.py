"""The vec-env wrappers between an environment and its policy, as pure functions.

A policy zip has the observation space behind ``VecNormalize``, ``VecFrameStack`` and
``VecTransposeImage``. This module works back from it to the environment's space. The normaliser
can be at any place in the chain; the shape of its statistics tells which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from trpo_deploy.errors import SpaceError
from trpo_deploy.spec.policy_spec import OBS
from trpo_deploy.spec.spaces import Array

ImageLayout: TypeAlias = Literal["hwc", "chw"]
"""Axis order of an image: channels last or channels first."""
Place: TypeAlias = Literal["frame", "stack", "network"]
"""What the normaliser takes: a frame, a stack of frames, or the network's input."""


@dataclass(frozen=True)
class Wrapping:
    """The wrappers of the training, as far as the zip does not tell."""

    image_layout: ImageLayout | None = None
    """Axis order of the environment's images; ``None`` if unknown."""
    frame_stack: int = 1
    """Number of frames that ``VecFrameStack`` stacked; 1 without it."""


NO_WRAPPING = Wrapping()


@dataclass(frozen=True, eq=False)
class ObservationChain:
    """The processing of one array of the observation: normalise, stack, transpose."""

    name: str
    """Key of the observation; ``"obs"`` for a space without keys."""
    frame: spaces.Space[Any]
    """The environment's space: one raw frame."""
    n_stack: int
    """Number of frames in a stack."""
    stack_axis: int
    """Axis of a batch along which frames are stacked."""
    transposed: bool
    """Whether channels-last images become channels-first."""
    statistics: RunningMeanStd | None
    place: Place
    """Where the statistics apply."""
    normalizer: VecNormalize | None
    """Has the clip and the epsilon for the statistics."""

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of the earlier frames, without the batch axis."""
        shape = [1, *(self.frame.shape or ())]
        shape[self.stack_axis] *= self.n_stack - 1
        return tuple(shape[1:])

    @property
    def normalised_before_stacking(self) -> bool:
        """Whether the stack consists of normalised frames."""
        return self.statistics is not None and self.place == "frame"

    def first_state(self, batch: int) -> Array:
        """Earlier frames at the start of an episode: zeros, as in ``VecFrameStack``."""
        dtype = np.float32 if self.normalised_before_stacking else self.frame.dtype
        return np.zeros((batch, *self.state_shape), dtype)

    @property
    def clip(self) -> float:
        """Bound of the normalised numbers."""
        assert self.normalizer is not None
        return float(self.normalizer.clip_obs)

    @property
    def epsilon(self) -> float:
        """Added to the variance before the square root."""
        assert self.normalizer is not None
        return float(self.normalizer.epsilon)

    def apply(self, frames: Array, state: Array | None) -> tuple[Array, Array | None]:
        """The policy's input for a batch of raw frames, and the earlier frames of the next step.

        Args:
            frames: ``(batch, *frame.shape)``.
            state: The earlier frames, ``(batch, *state_shape)``; ``None`` without a stack.
        """
        value = self._normalised("frame", frames)
        if state is not None:
            value = np.concatenate([state, value], axis=self.stack_axis)
            newest = range(-state.shape[self.stack_axis], 0)
            state = np.take(value, newest, axis=self.stack_axis).astype(state.dtype)
        value = self._normalised("stack", value)
        if self.transposed:
            value = np.moveaxis(value, -1, 1)
        return self._normalised("network", value), state

    def _normalised(self, place: Place, value: Array) -> Array:
        if self.statistics is None or self.normalizer is None or self.place != place:
            return value
        # SB3's own arithmetic and precision; the public normalize_obs takes all keys at once.
        return self.normalizer._normalize_obs(value, self.statistics).astype(np.float32)


def observation_chains(
    space: spaces.Space[Any], wrapping: Wrapping, normalizer: VecNormalize | None
) -> dict[str, ObservationChain]:
    """The chain of each array of an observation, by name.

    Args:
        space: The observation space in the zip.
        wrapping: The wrappers, as far as known.
        normalizer: The statistics, if any.

    Raises:
        SpaceError: The statistics or the frame stack do not fit the space, or it is unknown
            whether an image was transposed.
    """
    parts = space.spaces if isinstance(space, spaces.Dict) else {OBS: space}
    statistics = _statistics(parts, isinstance(space, spaces.Dict), normalizer)
    return {
        name: _chain(name, part, wrapping, statistics.get(name), normalizer)
        for name, part in parts.items()
    }


def _statistics(
    parts: Mapping[str, spaces.Space[Any]], has_keys: bool, normalizer: VecNormalize | None
) -> dict[str, RunningMeanStd]:
    if normalizer is None or not normalizer.norm_obs:
        return {}
    rms: Any = normalizer.obs_rms  # SB3 annotates one of its two forms only
    found: dict[str, RunningMeanStd] = rms if isinstance(rms, dict) else {OBS: rms}
    if isinstance(rms, dict) != has_keys or not set(found) <= set(parts):
        came = f"the keys {sorted(found)}" if isinstance(rms, dict) else "no keys"
        raise SpaceError(
            f"the statistics are for observations with {came}, the policy's are {sorted(parts)}; "
            "give the vecnormalize.pkl of this policy's own run"
        )
    keys = normalizer.norm_obs_keys
    return {key: each for key, each in found.items() if keys is None or key in keys}


def _chain(
    name: str,
    space: spaces.Space[Any],
    wrapping: Wrapping,
    statistics: RunningMeanStd | None,
    normalizer: VecNormalize | None,
) -> ObservationChain:
    transposed = _is_transposed(name, space, wrapping, statistics)
    outer = _channels_last(space) if transposed else space
    frame, axis = _unstacked(name, outer, wrapping.frame_stack)
    place: Place = "frame"
    if statistics is not None:
        places: dict[tuple[int, ...] | None, Place] = {
            space.shape: "network",
            outer.shape: "stack",
            frame.shape: "frame",
        }
        if statistics.mean.shape not in places:
            raise SpaceError(
                f"the statistics are for observations of shape {statistics.mean.shape}, the "
                f"policy's {name!r} have {frame.shape}; give the vecnormalize.pkl of this "
                "policy's own run"
            )
        place = places[statistics.mean.shape]
    return ObservationChain(
        name, frame, wrapping.frame_stack, axis, transposed, statistics, place, normalizer
    )


def _is_transposed(
    name: str,
    space: spaces.Space[Any],
    wrapping: Wrapping,
    statistics: RunningMeanStd | None,
) -> bool:
    """Whether ``VecTransposeImage`` made this space.

    Raises:
        SpaceError: It cannot be told.
    """
    if not (is_image_space(space) and isinstance(space, spaces.Box)):
        return False
    if np.argmin(space.shape) != 0 or not is_image_space_channels_first(space):
        return False  # the wrapper's result would be channels-first
    if wrapping.image_layout is not None:
        return wrapping.image_layout == "hwc"
    if statistics is not None and statistics.mean.shape != space.shape:
        return True
    raise SpaceError(
        f"the policy's image {name!r} is channels-first, {space.shape}, but the zip does not tell "
        "whether the environment's is too; give --image-layout hwc or --image-layout chw, or "
        "name the environment with --env"
    )


def _channels_last(space: spaces.Space[Any]) -> spaces.Box:
    assert isinstance(space, spaces.Box)
    low, high = (np.moveaxis(bound, 0, -1) for bound in (space.low, space.high))
    return spaces.Box(low, high, dtype=space.dtype.type)


def _unstacked(name: str, space: spaces.Space[Any], n_stack: int) -> tuple[spaces.Space[Any], int]:
    """The space of one frame, and the axis of a batch along which frames are stacked."""
    if n_stack == 1:
        return space, -1
    if not isinstance(space, spaces.Box):
        raise SpaceError(f"{name!r} is {space}, but only a Box can be a stack of {n_stack} frames")
    # SB3 stacks channels-first images along their first axis and all other arrays along the
    # last. The shape of the frame decides, so try both and let SB3 confirm.
    for axis in (0, -1) if space.shape else ():
        size, rest = divmod(space.shape[axis], n_stack)
        if rest:
            continue
        low, high = (np.take(bound, range(size), axis=axis) for bound in (space.low, space.high))
        frame = spaces.Box(low, high, dtype=space.dtype.type)
        first, batch_axis, _, _ = StackedObservations.compute_stacking(n_stack, frame)
        if first == (axis == 0):
            return frame, batch_axis
    raise SpaceError(
        f"the policy's {name!r} has the shape {space.shape}, which is not a stack of {n_stack} "
        "frames; give the right --frame-stack"
    )


def image_layout_of(
    found: spaces.Space[Any], expected: spaces.Space[Any], frame_stack: int
) -> ImageLayout | None:
    """The axis order of an environment's images.

    Args:
        found: The environment's observation space.
        expected: The policy's, behind all wrappers.
        frame_stack: Number of frames in a stack.

    Returns:
        ``None`` if there are no images, or they are not the policy's.
    """
    pairs = [(found, expected)]
    if isinstance(found, spaces.Dict) and isinstance(expected, spaces.Dict):
        pairs = [(found[key], expected[key]) for key in found if key in expected.spaces]
    for raw, wrapped in pairs:
        if not (is_image_space(raw) and is_image_space(wrapped) and raw.shape and wrapped.shape):
            continue
        channels, height, width = wrapped.shape
        layouts: dict[tuple[int, ...], ImageLayout] = {
            (channels // frame_stack, height, width): "chw",
            (height, width, channels // frame_stack): "hwc",
        }
        if raw.shape in layouts:
            return layouts[raw.shape]
    return None
