"""The vec-env wrappers between an environment and its policy, as pure functions.

A policy zip has the observation space behind ``VecNormalize``, ``VecFrameStack`` and
``VecTransposeImage``. This module works back from it to the environment's space, and computes what
the wrappers give the policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.envs.spaces import frames_in
from trpo_deploy.errors import SpaceError
from trpo_deploy.sb3.wrapper_search import (
    ArrayKind,
    Facts,
    ImageLayout,
    Place,
    Wrappers,
    find_wrappers,
)
from trpo_deploy.spec.policy_spec import OBS
from trpo_deploy.spec.spaces import Array


@dataclass(frozen=True)
class Wrapping:
    """The wrappers of the training, as far as the zip does not tell."""

    image_layout: ImageLayout | None = None
    """Axis order of the environment's images; ``None`` if unknown."""
    frame_stack: int = 1
    """Number of frames that ``VecFrameStack`` stacked; 1 without it."""
    environment: spaces.Space[Any] | None = None
    """The environment's observation space, one frame; ``None`` if unknown."""
    transposed: frozenset[str] | None = None
    """Names of the images that ``VecTransposeImage`` transposed; ``None`` if unknown."""
    stacks_by_default: bool = False
    """Whether ``VecFrameStack`` is known to have chosen its axis itself: the channels of an image,
    else the last axis."""


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
    """In the layout of the environment's images."""
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
        return np.moveaxis(value, -1, 1) if self.transposed else value, state

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
        SpaceError: The statistics or the frame stack do not fit the space, or several wrappers
            would, and it is unknown which there were.
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
    n_stack = wrapping.frame_stack
    if n_stack > 1 and not isinstance(space, spaces.Box):
        raise SpaceError(f"{name!r} is {space}, but only a Box can be a stack of {n_stack} frames")
    facts = Facts(
        n_stack,
        None if statistics is None else statistics.mean.shape,
        _environment_array(name, space, wrapping),
        wrapping.image_layout,
        None if wrapping.transposed is None else name in wrapping.transposed,
        wrapping.stacks_by_default,
    )
    policy = _kind(space)
    found = find_wrappers(policy, facts, _images(space, statistics, normalizer))
    if not found or _contradicts(policy, facts, found):
        raise SpaceError(_misfit(name, policy, facts))
    if len(found) > 1:
        raise SpaceError(_undecided(name, policy, facts, found))
    (wrappers,) = found
    assert space.dtype is not None
    if n_stack > 1 and statistics and wrappers.place == "frame" and space.dtype.kind != "f":
        raise SpaceError(
            f"the policy's {name!r} was normalised, and then stacked as {space.dtype}, which cut "
            "off its decimals; a file cannot do that: train with VecNormalize around VecFrameStack"
        )
    axis = wrappers.stack_axis
    last = len(wrappers.frame.shape) - 1
    return ObservationChain(
        name,
        _frame(space, wrappers, n_stack),
        n_stack,
        1 + axis if 0 <= axis < last else -1,
        wrappers.transposed,
        _in_frame_layout(statistics) if wrappers.transposed_statistics else statistics,
        wrappers.place,
        normalizer,
    )


def _kind(space: spaces.Space[Any]) -> ArrayKind:
    return ArrayKind(space.shape or (), is_image_space(space))


def _environment_array(
    name: str, policy: spaces.Space[Any], wrapping: Wrapping
) -> ArrayKind | None:
    space = wrapping.environment
    if isinstance(space, spaces.Dict):
        space = space.spaces.get(name)
    if not isinstance(space, spaces.Box):
        return None
    # The layout that the user names comes first, as the environment may be another version.
    is_named = wrapping.image_layout is not None and is_image_space(policy)
    return None if is_named else _kind(space)


def _images(
    space: spaces.Space[Any], statistics: RunningMeanStd | None, normalizer: VecNormalize | None
) -> set[bool]:
    """Whether the environment's array may be an image, and whether it may be none.

    Since SB3 1.7, ``VecNormalize`` makes images floats whose bounds are its clip.
    """
    if statistics is None or normalizer is None or is_image_space(space):
        return {is_image_space(space)}
    clip, mean = np.float32(normalizer.clip_obs), statistics.mean
    if not (
        is_image_space(space, normalized_image=True)
        and isinstance(space, spaces.Box)
        and space.dtype == np.float32
        and (space.low == -clip).all()
        and (space.high == clip).all()
        and (mean >= 0).all()
        and (mean <= 255).all()
    ):
        return {False}
    return {True} if (mean > clip).any() else {True, False}


def _in_frame_layout(statistics: RunningMeanStd | None) -> RunningMeanStd | None:
    """Statistics of channels-first images, for channels-last ones."""
    assert statistics is not None
    found = RunningMeanStd(shape=())
    found.mean, found.var = (np.moveaxis(each, 0, -1) for each in (statistics.mean, statistics.var))
    return found


def _frame(space: spaces.Space[Any], wrappers: Wrappers, n_stack: int) -> spaces.Space[Any]:
    """The environment's space, from the policy's."""
    frame, axis = wrappers.frame, wrappers.stack_axis
    if not isinstance(space, spaces.Box):
        return space
    if frame.is_image:
        return spaces.Box(0, 255, frame.shape, np.uint8)
    low, high = (_frame_bound(bound, n_stack, axis) for bound in (space.low, space.high))
    return spaces.Box(low, high, dtype=space.dtype.type)


def _frame_bound(stacked: Array, n_stack: int, axis: int) -> Array:
    """The bounds of one frame."""
    if n_stack == 1:
        return stacked
    size = stacked.shape[axis] // n_stack
    # VecFrameStack repeats each bound, although it concatenates frames.
    repeated = np.take(stacked, range(0, size * n_stack, n_stack), axis)
    if np.array_equal(np.repeat(repeated, n_stack, axis), stacked):
        return repeated
    return np.take(stacked, range(size), axis)


def _contradicts(policy: ArrayKind, facts: Facts, found: list[Wrappers]) -> bool:
    """Whether the environment shows that the user named a wrong number of frames."""
    if facts.frame is None or facts.n_stack == 1 or facts.stacks_by_default:
        return False
    frames = frames_in(policy.shape, facts.frame.shape)
    is_used = any(each.frame == facts.frame for each in found)
    return not is_used and frames not in (None, facts.n_stack)


def _misfit(name: str, policy: ArrayKind, facts: Facts) -> str:
    frames = None if facts.frame is None else frames_in(policy.shape, facts.frame.shape)
    if facts.frame is not None and frames not in (None, facts.n_stack):
        return (
            f"the policy's {name!r} has the shape {policy.shape}, and the environment's "
            f"{facts.frame.shape}: that is a stack of {frames} frames, not of {facts.n_stack}; "
            f"give --frame-stack {frames}"
        )
    divides = any(size % facts.n_stack == 0 for size in policy.shape)
    if facts.statistics is None or (facts.n_stack > 1 and not divides):
        return (
            f"the policy's {name!r} has the shape {policy.shape}, which is not a stack of "
            f"{facts.n_stack} frames; give the right --frame-stack"
        )
    return (
        f"the statistics are for observations of shape {facts.statistics}, which do not fit the "
        f"policy's {name!r} of shape {policy.shape}; give the vecnormalize.pkl of this policy's "
        "own run"
    )


def _undecided(name: str, policy: ArrayKind, facts: Facts, found: list[Wrappers]) -> str:
    frames = sorted({(each.frame.shape, each.frame.is_image) for each in found})
    if len({is_image for _, is_image in frames}) > 1:
        return (
            f"the policy's {name!r} of shape {policy.shape} was normalised, and the zip does not "
            "tell whether the environment's are images or floats; name the environment with --env"
        )
    shapes = " or ".join(str(shape) for shape, _ in frames)
    is_layout_open = facts.layout is None and facts.frame is None and frames[0][1]
    if facts.n_stack > 1 and not is_layout_open:
        return (
            f"the policy's {name!r} has the shape {policy.shape}: its {facts.n_stack} frames have "
            f"the shape {shapes}, depending on the channels_order of VecFrameStack, which the zip "
            "does not tell; name the environment with --env, or export from a run folder whose "
            "config.yml has frame_stack"
        )
    return (
        f"the policy's image {name!r} has the shape {policy.shape}, and the zip does not tell "
        f"whether the environment's has {shapes}; give --image-layout hwc or --image-layout chw, "
        "or name the environment with --env"
    )
