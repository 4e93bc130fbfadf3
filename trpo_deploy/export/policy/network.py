"""The complete policy as plain arrays: everything between a raw observation and an action.

It follows Stable-Baselines3's deterministic path: the observation of the vec-env wrappers,
``preprocess_obs``, the features extractor, ``policy_net``, ``action_net``, the mode of the
distribution, and the clip or scaling to the action space. It also has what the optional outputs
need: the critic and the standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from trpo_deploy.export.policy.features import Features
from trpo_deploy.export.policy.layers import Layer, Linear
from trpo_deploy.export.policy.observations import ObservationInput
from trpo_deploy.spec.policy_spec import OBS, StateSpec
from trpo_deploy.spec.spaces import Array, BoxSpace, DictSpace, Space


@dataclass(frozen=True, eq=False)
class FixedStd:
    """Standard deviation of a Gaussian that is the same for all observations."""

    values: Array
    """float32, ``(actions,)``."""


@dataclass(frozen=True, eq=False)
class StateDependentStd:
    """Standard deviation of gSDE: ``sqrt(latent² @ variance + epsilon)``."""

    variance: Array
    """float32, ``(latent, actions)``."""
    epsilon: Array
    """Of one element, or ``(actions,)``."""


Std: TypeAlias = FixedStd | StateDependentStd


@dataclass(frozen=True)
class Critic:
    """The value function."""

    features: Features | None
    """``None`` if the critic shares the actor's features extractor."""
    layers: tuple[Layer, ...]


@dataclass(frozen=True, eq=False)
class ActorNetwork:
    """Everything that determines the deterministic action."""

    inputs: tuple[ObservationInput, ...]
    has_keys: bool
    """Whether the observation space is a Dict."""
    action_space: Space
    features: Features
    layers: tuple[Layer, ...]
    """From the flat features to the latent, which is the input of :attr:`head`."""
    head: Linear
    """From the latent to the mean (Box) or the logits (all other spaces)."""
    critic: Critic
    std: Std | None
    """``None`` if the action space is not a Box, or if the zip has lost it."""
    squash: bool = False
    """Whether the mean passes through tanh and is scaled to the bounds, instead of clipped."""

    @property
    def observation_space(self) -> Space | DictSpace:
        """The environment's observation space, for a single frame."""
        if self.has_keys:
            return DictSpace({each.name: each.space for each in self.inputs})
        (only,) = self.inputs
        assert only.name == OBS
        return only.space

    @property
    def states(self) -> tuple[StateSpec, ...]:
        """Frames that the caller keeps between steps."""
        return tuple(each.frame_stack.state for each in self.inputs if each.frame_stack)

    @property
    def is_gaussian(self) -> bool:
        """Whether :attr:`head` computes the mean of a Gaussian rather than logits."""
        return isinstance(self.action_space, BoxSpace)

    @property
    def parameter_name(self) -> str:
        """Name of what :attr:`head` computes."""
        return "mean" if self.is_gaussian else "logits"
