"""What Stable-Baselines3's vec-env wrappers did to observations before a policy saw them.

A policy zip knows the observation space behind ``VecNormalize``, ``VecFrameStack`` and
``VecTransposeImage``. This module goes back from there to what the environment gives. The
normaliser may stand at any place in that chain; the shape of its statistics tells where.
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
Place: TypeAlias = Literal["frame", "stack", "network"]


@dataclass(frozen=True)
class Wrapping:
    """What a zip does not tell of the environment that its policy was trained in."""

    image_layout: ImageLayout | None = None
    """The environment's own; ``None`` if it is not known."""
    frame_stack: int = 1
    """Frames that ``VecFrameStack`` put together; 1 without it."""


NO_WRAPPING = Wrapping()


@dataclass(frozen=True, eq=False)
class ObservationChain:
    """The way of one array from the environment to the policy: normalise, stack, transpose."""

    name: str
    """The observation's key, :data:`~trpo_deploy.spec.OBS` for a space without keys."""
    frame: spaces.Space[Any]
    """What the environment gives."""
    n_stack: int
    stack_axis: int
    """The axis of a batch along which frames are put together."""
    transposed: bool
    """Whether channels-last images are turned into channels-first ones."""
    statistics: RunningMeanStd | None
    place: Place
    """Where the statistics apply: to a frame, to a stack, or to what the network is given."""
    normalizer: VecNormalize | None
    """Holds the clip and epsilon that go with the statistics."""

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of the earlier frames, without the batch axis."""
        shape = [1, *(self.frame.shape or ())]
        shape[self.stack_axis] *= self.n_stack - 1
        return tuple(shape[1:])

    @property
    def normalised_before_stacking(self) -> bool:
        """Whether the stack, and with it the state, is of normalised frames."""
        return self.statistics is not None and self.place == "frame"

    def first_state(self, batch: int) -> Array:
        """The zeros that ``VecFrameStack`` starts an episode with."""
        dtype = np.float32 if self.normalised_before_stacking else self.frame.dtype
        return np.zeros((batch, *self.state_shape), dtype)

    @property
    def clip(self) -> float:
        """Of normalised numbers."""
        assert self.normalizer is not None
        return float(self.normalizer.clip_obs)

    @property
    def epsilon(self) -> float:
        """Added to the variance."""
        assert self.normalizer is not None
        return float(self.normalizer.epsilon)

    def apply(self, frames: Array, state: Array | None) -> tuple[Array, Array | None]:
        """What the policy is given for a batch of raw frames, and the next state.

        Args:
            frames: ``(batch, *frame.shape)``.
            state: the earlier frames, ``(batch, *state_shape)``; ``None`` without a stack.
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
        # SB3's own arithmetic, in its own precision; normalize_obs itself takes all keys at once.
        return self.normalizer._normalize_obs(value, self.statistics).astype(np.float32)


def observation_chains(
    space: spaces.Space[Any], wrapping: Wrapping, normalizer: VecNormalize | None
) -> dict[str, ObservationChain]:
    """The chains of all arrays of an observation, by name.

    Args:
        space: the observation space that the policy was saved with.
        wrapping: what is known of the wrappers.
        normalizer: the statistics, if there are any.

    Raises:
        SpaceError: the statistics or the frame stack do not fit the space, or an image could
            have been transposed and nobody says whether it was.
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
            f"the statistics are for observations of {came}, the policy's are {sorted(parts)}; "
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
    """Whether ``VecTransposeImage`` made this space, as far as that can be told."""
    if not (is_image_space(space) and isinstance(space, spaces.Box)):
        return False
    if np.argmin(space.shape) != 0 or not is_image_space_channels_first(space):
        return False  # no such wrapper was at work, or its result would be channels-first
    if wrapping.image_layout is not None:
        return wrapping.image_layout == "hwc"
    if statistics is not None and statistics.mean.shape != space.shape:
        return True
    raise SpaceError(
        f"the policy's image {name!r} is channels-first, {space.shape}, and the zip does not tell "
        "whether the environment's own is; say --image-layout hwc or --image-layout chw, or name "
        "the environment with --env"
    )


def _channels_last(space: spaces.Space[Any]) -> spaces.Box:
    assert isinstance(space, spaces.Box)
    low, high = (np.moveaxis(bound, 0, -1) for bound in (space.low, space.high))
    return spaces.Box(low, high, dtype=space.dtype.type)


def _unstacked(name: str, space: spaces.Space[Any], n_stack: int) -> tuple[spaces.Space[Any], int]:
    """One frame out of a stack, and the axis of a batch along which frames lie."""
    if n_stack == 1:
        return space, -1
    if not isinstance(space, spaces.Box):
        raise SpaceError(f"{name!r} is {space}; only a Box can be a stack of {n_stack} frames")
    # SB3 stacks channels-first images along their first axis and all else along the last; which
    # of the two a frame is, the frame decides.
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
        f"the policy's {name!r} have the shape {space.shape}, which is no stack of {n_stack} "
        "frames; give the right --frame-stack"
    )


def image_layout_of(
    found: spaces.Space[Any], expected: spaces.Space[Any], frame_stack: int
) -> ImageLayout | None:
    """How an environment lays out the images that a policy was saved with.

    Args:
        found: the environment's observation space.
        expected: the policy's, behind all wrappers.
        frame_stack: frames that were put together.

    Returns:
        ``None`` if there are no such images, or they are not the policy's.
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
