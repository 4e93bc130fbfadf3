"""Policies that squash a Gaussian action into its bounds, without gSDE.

Stable-Baselines3 squashes with gSDE only. Its rollout stores ``tanh(a)``, and its log-probability
uses a clamped inverse, which is wrong where tanh saturates. Here the rollout stores ``a``, and
the environment gets ``tanh(a)`` scaled to its bounds. The change of variables is the same for the
old and the new policy, so it cancels in their ratio and in their KL divergence. Both are exact,
also at the bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)

from trpo_deploy.errors import SpaceError
from trpo_deploy.spec.spaces import Array


def check_finite_bounds(space: spaces.Space[Any]) -> None:
    """Check that an action space can be squashed into.

    Raises:
        SpaceError: The space is not a Box with finite bounds.
    """
    largest = np.finfo(np.float32).max  # the canonical space has it in place of infinity
    if not isinstance(space, spaces.Box) or (np.abs([space.low, space.high]) >= largest).any():
        raise SpaceError(f"squash_output needs a Box with finite bounds, not {space}")


class SquashedMlpPolicy(ActorCriticPolicy):
    """``MlpPolicy`` whose actions are ``tanh`` of a Gaussian, scaled to the action's bounds."""

    def __init__(self, *args: Any, squash_output: bool | None = None, **kwargs: Any) -> None:
        # SB3 saves None for it without gSDE.
        if squash_output is False or kwargs.get("use_sde"):
            raise ValueError(f"{type(self).__name__} takes neither squash_output=False nor use_sde")
        super().__init__(*args, **kwargs)
        check_finite_bounds(self.action_space)
        self._squash_output = True

    def unscale_action(self, scaled_action: Array) -> Array:
        """Scale the tanh of a Gaussian action to the environment's bounds."""
        bounded: Array = super().unscale_action(np.tanh(scaled_action))
        return bounded


class SquashedCnnPolicy(SquashedMlpPolicy, ActorCriticCnnPolicy):
    """:class:`SquashedMlpPolicy` for images."""


class SquashedMultiInputPolicy(SquashedMlpPolicy, MultiInputActorCriticPolicy):
    """:class:`SquashedMlpPolicy` for observations with keys."""


SQUASHED: dict[type[BasePolicy], type[BasePolicy]] = {
    ActorCriticPolicy: SquashedMlpPolicy,
    ActorCriticCnnPolicy: SquashedCnnPolicy,
    MultiInputActorCriticPolicy: SquashedMultiInputPolicy,
}
"""The squashing version of each of SB3's policies."""


def squashed(policy_class: type[BasePolicy]) -> type[BasePolicy]:
    """The squashing version of a policy class."""
    if issubclass(policy_class, SquashedMlpPolicy):
        return policy_class
    known = SQUASHED.get(policy_class)
    return known or type(f"Squashed{policy_class.__name__}", (SquashedMlpPolicy, policy_class), {})
