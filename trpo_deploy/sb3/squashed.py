"""Policies whose Gaussian actions are squashed into bounds without gSDE.

Stable-Baselines3 squashes with gSDE only. There the rollout keeps ``tanh(a)``, and the
log-probability is taken through a clamped inverse, which is wrong where tanh saturates. Here
the rollout keeps ``a`` itself and the environment gets ``tanh(a)`` scaled to its bounds. The
change of variables is the same for the old and the new policy, so it cancels in their ratio
and in their KL divergence, and both are exact at the bounds.
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
    """Refuse actions that nothing can be squashed into.

    Raises:
        SpaceError: the space is no Box, or one without bounds.
    """
    largest = np.finfo(np.float32).max  # stands for a bound that there is not
    if not isinstance(space, spaces.Box) or (np.abs([space.low, space.high]) >= largest).any():
        raise SpaceError(f"squash_output needs a Box with finite bounds, not {space}")


class SquashedMlpPolicy(ActorCriticPolicy):
    """``MlpPolicy`` whose actions are ``tanh`` of a Gaussian, scaled to the action's bounds."""

    def __init__(self, *args: Any, squash_output: bool | None = None, **kwargs: Any) -> None:
        # SB3 saves None for it where there is no gSDE.
        if squash_output is False or kwargs.get("use_sde"):
            raise ValueError(f"{type(self).__name__} always squashes, and never by gSDE")
        super().__init__(*args, **kwargs)
        check_finite_bounds(self.action_space)
        self._squash_output = True

    def unscale_action(self, scaled_action: Array) -> Array:
        """From the Gaussian's action to the environment's; SB3 calls it wherever one is needed."""
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
"""SB3's policies, and the one that squashes in place of each."""


def squashed(policy_class: type[BasePolicy]) -> type[BasePolicy]:
    """The class of a policy, or one derived from it, that squashes without gSDE."""
    if issubclass(policy_class, SquashedMlpPolicy):
        return policy_class
    known = SQUASHED.get(policy_class)
    return known or type(f"Squashed{policy_class.__name__}", (SquashedMlpPolicy, policy_class), {})
