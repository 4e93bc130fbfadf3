"""What a policy computes between a raw observation and an action, as plain arrays.

This is the deterministic way through Stable-Baselines3: the vec-env wrappers' observation,
``preprocess_obs``, the features extractor, ``policy_net``, ``action_net``, the distribution's
mode, and the clip or scaling to the action space. Beside it, what the optional outputs need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from trpo_deploy.export.graph.traced import TracedFeatures
from trpo_deploy.spec.policy_spec import OBS, StateSpec, TensorSpec, state_name
from trpo_deploy.spec.spaces import (
    Array,
    BoxSpace,
    DictSpace,
    DiscreteSpace,
    MultiDiscreteSpace,
    Space,
)

# --- layers ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Linear:
    """``x @ weight.T + bias``."""

    weight: Array
    """float32, ``(outputs, inputs)``."""
    bias: Array
    """float32, ``(outputs,)``."""


@dataclass(frozen=True, eq=False)
class Conv:
    """A two-dimensional convolution over channels-first images."""

    weight: Array
    """float32, ``(outputs, inputs / groups, height, width)``."""
    bias: Array
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class Activation:
    """An element-wise function, by the name of its class in ``torch.nn``."""

    name: str
    parameters: tuple[float, ...] = ()
    """``alpha``, slope or bounds, where the function has some."""


@dataclass(frozen=True)
class Flatten:
    """All axes but the batch's as one."""


Layer: TypeAlias = Linear | Conv | Activation | Flatten

# --- from the environment to the network ----------------------------------------------------


@dataclass(frozen=True, eq=False)
class Normalizer:
    """``clip((x - mean) / std, -clip, clip)``, as ``VecNormalize`` does it."""

    mean: Array
    """float64, of the observation's shape."""
    std: Array
    """float64, ``sqrt(variance + epsilon)``."""
    clip: float
    epsilon: float

    def in_words(self) -> str:
        """For people."""
        return f"normalise: clip((x - mean) / std, -{self.clip:g}, {self.clip:g})"


@dataclass(frozen=True)
class FrameStack:
    """Puts earlier frames, an input of their own, before the present one."""

    n_stack: int
    axis: int
    """Of a batch."""
    state: StateSpec

    def in_words(self) -> str:
        """For people."""
        return (
            f"stack {self.n_stack} frames: {self.state.input.name}, zeros at the start of an "
            f"episode, then the present one; {self.state.output} is for the next step"
        )


@dataclass(frozen=True)
class ChannelsFirst:
    """Images of ``(batch, height, width, channels)`` to ``(batch, channels, height, width)``."""

    def in_words(self) -> str:
        """For people."""
        return "transpose: channels last to channels first"


@dataclass(frozen=True)
class ScaleImage:
    """Divide by 255."""

    def in_words(self) -> str:
        """For people."""
        return "scale: divide by 255"


@dataclass(frozen=True, eq=False)
class OneHot:
    """Each number as a one in a row of zeros, all rows side by side."""

    space: DiscreteSpace | MultiDiscreteSpace

    @property
    def sizes(self) -> Array:
        """How many values each number has, ``(numbers,)``."""
        return np.atleast_1d(
            self.space.n if isinstance(self.space, DiscreteSpace) else self.space.nvec.flatten()
        )

    @property
    def starts(self) -> Array:
        """The smallest value of each number, ``(numbers,)``."""
        return np.atleast_1d(
            np.asarray(self.space.start, np.int64).flatten()  # a Discrete has one number only
        )

    def in_words(self) -> str:
        """For people."""
        sizes = ", ".join(map(str, self.sizes[:6])) + (", ..." if len(self.sizes) > 6 else "")
        return f"one-hot of {sizes}"


Step: TypeAlias = Normalizer | FrameStack | ChannelsFirst | ScaleImage | OneHot


@dataclass(frozen=True)
class ObservationInput:
    """One array of the observation, and what happens to it before the network."""

    name: str
    space: Space
    """What the environment gives: one frame, raw."""
    steps: tuple[Step, ...]

    @property
    def normalizer(self) -> Normalizer | None:
        """The step that normalises, if there is one."""
        return next((step for step in self.steps if isinstance(step, Normalizer)), None)

    @property
    def frame_stack(self) -> FrameStack | None:
        """The step that stacks frames, if there is one."""
        return next((step for step in self.steps if isinstance(step, FrameStack)), None)


# --- features, actor and critic -------------------------------------------------------------


@dataclass(frozen=True)
class Branch:
    """The features of one input."""

    input: str
    layers: tuple[Layer, ...]


Features: TypeAlias = tuple[Branch, ...] | TracedFeatures
"""Branches are put side by side in their order; anything else is code of the user's own."""


@dataclass(frozen=True, eq=False)
class FixedStd:
    """The Gaussian's standard deviation, the same for all observations."""

    values: Array
    """float32, ``(actions,)``."""


@dataclass(frozen=True, eq=False)
class StateDependentStd:
    """gSDE's: ``sqrt(latent² @ variance + epsilon)``."""

    variance: Array
    """float32, ``(latent, actions)``."""
    epsilon: float


@dataclass(frozen=True)
class Critic:
    """The value function."""

    features: Features | None
    """``None`` where the critic shares the actor's."""
    layers: tuple[Layer, ...]


@dataclass(frozen=True, eq=False)
class ActorNetwork:
    """Everything that decides the deterministic action."""

    inputs: tuple[ObservationInput, ...]
    has_keys: bool
    """Whether the observation is a Dict."""
    action_space: Space
    features: Features
    layers: tuple[Layer, ...]
    """From the flat features to the latent of the last layer."""
    head: Linear
    """From there to the mean (Box) or the logits (all others)."""
    critic: Critic
    std: FixedStd | StateDependentStd | None
    """``None`` for an action that is no Box, or where the zip has lost it."""
    squash: bool = False
    """Whether the mean goes through tanh and is scaled to the bounds, in place of a clip."""
    warnings: tuple[str, ...] = field(default=())
    """What the user should know of the file's numbers."""

    @property
    def observation_space(self) -> Space | DictSpace:
        """The environment's, a single frame."""
        if self.has_keys:
            return DictSpace({each.name: each.space for each in self.inputs})
        (only,) = self.inputs
        assert only.name == OBS
        return only.space

    @property
    def states(self) -> tuple[StateSpec, ...]:
        """What the caller keeps between steps."""
        return tuple(each.frame_stack.state for each in self.inputs if each.frame_stack)

    @property
    def is_gaussian(self) -> bool:
        """Whether the last layer gives the mean of a Gaussian, and not logits."""
        return isinstance(self.action_space, BoxSpace)

    @property
    def parameter_name(self) -> str:
        """What the last layer gives."""
        return "mean" if self.is_gaussian else "logits"


def frame_stack(
    name: str, n_stack: int, axis: int, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> FrameStack:
    """A stack whose state is named after its observation."""
    state = TensorSpec(state_name(name), str(dtype), shape)
    return FrameStack(n_stack, axis, StateSpec(state, f"next_{state.name}"))


def preprocessing_in_words(actor: ActorNetwork) -> tuple[str, ...]:
    """What the file puts around the network, a step a line."""
    return (*_inputs_in_words(actor), _action_in_words(actor))


def _inputs_in_words(actor: ActorNetwork) -> Iterator[str]:
    for each in actor.inputs:
        for step in each.steps:
            yield f"{each.name}: {step.in_words()}"


def _action_in_words(actor: ActorNetwork) -> str:
    space = actor.action_space
    if isinstance(space, BoxSpace):
        if actor.squash:
            return "action: tanh of the Gaussian's mean, scaled to the action bounds"
        return "action: mean of the Gaussian, clipped to the action bounds"
    if isinstance(space, DiscreteSpace):
        start = f", counted from {space.start}" if space.start else ""
        return f"action: the most probable one{start}"
    if isinstance(space, MultiDiscreteSpace):
        start = ", each counted from its start" if space.start.any() else ""
        return f"action: the most probable value of each number{start}"
    return "action: 1 where the probability is above 0.5"
