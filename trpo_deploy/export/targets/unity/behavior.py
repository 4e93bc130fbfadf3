"""What Unity's scene must have for a policy: its sensors and its actions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trpo_deploy.export.targets.games.actions import Branches
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import Array, BoxSpace, Space

API_VERSION = 3
"""Version of the contract, as the file tells it."""


@dataclass(frozen=True, eq=False)
class Sensor:
    """A sensor of the agent, which writes one observation."""

    key: str
    """Key of the observation."""
    space: Space

    @property
    def is_visual(self) -> bool:
        """Whether it is an image, which Unity writes as ``(channels, height, width)`` in 0..1."""
        space = self.space
        if not isinstance(space, BoxSpace) or len(space.shape) != 3:
            return False
        in_unit = bool((space.low == 0).all() and (space.high == 1).all())
        return space.dtype == np.uint8 or (space.dtype == np.float32 and in_unit)

    @property
    def is_channels_last(self) -> bool:
        """Whether the environment's image is ``(height, width, channels)``."""
        return self.space.shape[0] >= self.space.shape[2]

    @property
    def scale(self) -> float:
        """The environment's number for 1 in Unity."""
        return 255.0 if self.is_visual and self.space.dtype == np.uint8 else 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what Unity writes: ``(numbers,)`` or ``(channels, height, width)``."""
        if not self.is_visual:
            return (int(np.prod(self.space.shape)),)
        first, second, third = self.space.shape
        return (third, first, second) if self.is_channels_last else (first, second, third)

    def write(self, observations: Array) -> Array:
        """What Unity writes for observations of the environment: float32, ``(batch, *shape)``."""
        if self.is_visual and self.is_channels_last:
            observations = observations.transpose(0, 3, 1, 2)
        with np.errstate(over="ignore"):
            numbers = observations.astype(np.float32) / np.float32(self.scale)
        return numbers.reshape(len(numbers), *self.shape)


@dataclass(frozen=True)
class Behavior:
    """Sensors and actions of an agent."""

    sensors: tuple[Sensor, ...]
    """In ML-Agents' order, which is that of the sensors' names."""
    continuous: int
    """Number of continuous actions."""
    branches: tuple[int, ...]
    """Sizes of the discrete actions."""

    @classmethod
    def of(cls, spec: PolicySpec) -> Behavior:
        """The behavior of a policy."""
        sensors = tuple(Sensor(key, space) for key, space in spec.observation_spaces.items())
        space = spec.action_space
        if isinstance(space, BoxSpace):
            return cls(sensors, int(np.prod(space.shape)), ())
        return cls(sensors, 0, Branches.of(space).sizes)
