"""Steps from an environment's raw observation to the features extractor's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from trpo_deploy.export.policy.categories import category_counts
from trpo_deploy.spec.policy_spec import StateSpec, TensorSpec, state_name
from trpo_deploy.spec.spaces import Array, DiscreteSpace, MultiDiscreteSpace, Space


def next_state_name(observation: str) -> str:
    """Name of the ONNX output with the frames to pass at the next step."""
    return f"next_{state_name(observation)}"


@dataclass(frozen=True, eq=False)
class Normalizer:
    """``clip((x - mean) / std, -clip, clip)``, as ``VecNormalize`` computes it."""

    mean: Array
    """float64, of the observation's shape."""
    std: Array
    """float64, ``sqrt(variance + epsilon)``."""
    clip: float
    epsilon: float

    def describe(self) -> str:
        """The step as text."""
        if np.isinf(self.clip):
            return "normalise: (x - mean) / std"
        return f"normalise: clip((x - mean) / std, -{self.clip:g}, {self.clip:g})"


@dataclass(frozen=True, eq=False)
class Rescale:
    """``factor * x + offset``, as Gymnasium's ``RescaleObservation`` computes it."""

    factor: Array
    """float64, of the observation's shape."""
    offset: Array
    """float64, of the observation's shape."""

    def describe(self) -> str:
        """The step as text."""
        return "rescale: factor * x + offset"


@dataclass(frozen=True)
class Reshape:
    """Give each observation another shape, with its numbers in the same order."""

    shape: tuple[int, ...]

    def describe(self) -> str:
        """The step as text."""
        return f"reshape: to {self.shape}"


@dataclass(frozen=True)
class ToFloat:
    """Convert to float32, as Gymnasium's ``DtypeObservation`` does before other steps."""

    def describe(self) -> str:
        """The step as text."""
        return "convert: to float32"


@dataclass(frozen=True)
class FrameStack:
    """Concatenate the earlier frames, which are a separate input, with the current frame."""

    n_stack: int
    axis: int
    """Axis of a batch along which frames are stacked."""
    state: StateSpec

    @classmethod
    def of(
        cls,
        observation: str,
        n_stack: int,
        axis: int,
        shape: tuple[int, ...],
        dtype: np.dtype[np.generic],
    ) -> FrameStack:
        """A stack whose state is named after its observation.

        Args:
            observation: Name of the observation.
            n_stack: Number of frames, the current one included.
            axis: Axis of a batch along which frames are stacked.
            shape: Shape of the earlier frames, without the batch axis.
            dtype: Dtype of the earlier frames.
        """
        state = TensorSpec(state_name(observation), str(dtype), shape)
        return cls(n_stack, axis, StateSpec(state, next_state_name(observation)))

    def describe(self) -> str:
        """The step as text."""
        return (
            f"stack {self.n_stack} frames: {self.state.input.name}, zeros at the start of an "
            f"episode, then the present one; {self.state.output} is for the next step"
        )


@dataclass(frozen=True)
class ChannelsFirst:
    """Transpose images from ``(batch, height, width, channels)`` to channels first."""

    def describe(self) -> str:
        """The step as text."""
        return "transpose: channels last to channels first"


@dataclass(frozen=True)
class ScaleImage:
    """Divide by 255."""

    def describe(self) -> str:
        """The step as text."""
        return "scale: divide by 255"


@dataclass(frozen=True, eq=False)
class OneHot:
    """Encode each number as a one-hot vector and concatenate the vectors."""

    space: DiscreteSpace | MultiDiscreteSpace

    def describe(self) -> str:
        """The step as text."""
        sizes = category_counts(self.space)
        return f"one-hot of {', '.join(map(str, sizes[:6]))}" + (", ..." if len(sizes) > 6 else "")


Step: TypeAlias = (
    Normalizer | Rescale | Reshape | ToFloat | FrameStack | ChannelsFirst | ScaleImage | OneHot
)


@dataclass(frozen=True)
class ObservationInput:
    """One array of the observation and the steps that prepare it for the network."""

    name: str
    space: Space
    """Space of one raw frame, as the environment returns it."""
    steps: tuple[Step, ...]

    @property
    def normalizer(self) -> Normalizer | None:
        """The normalisation step, if there is one."""
        return next((step for step in self.steps if isinstance(step, Normalizer)), None)

    @property
    def frame_stack(self) -> FrameStack | None:
        """The frame-stacking step, if there is one."""
        return next((step for step in self.steps if isinstance(step, FrameStack)), None)
