"""A trained policy as Stable-Baselines3 runs it, from raw observation to environment action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.envs.space_translation import action_from_sb3, observation_to_sb3
from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.sb3.inside_wrappers import NO_WRAPPERS, InsideWrappers
from trpo_deploy.sb3.observation_chain import (
    NO_WRAPPING,
    ObservationChain,
    Wrapping,
    observation_chains,
)
from trpo_deploy.spec.policy_spec import OBS, FrameHistory, Inputs, state_name
from trpo_deploy.spec.spaces import Array, DictSpace, Space


@dataclass(frozen=True)
class SB3Policy:
    """Wrappers of observations, then ``policy.predict``, then wrappers of actions.

    The classes of SB3 and Gymnasium compute everything, so an exported file is compared with this.
    """

    policy: ActorCriticPolicy
    statistics: VecNormalize | None
    observation_space: spaces.Space[Any]
    """The zip's; for spaces that SB3 does not support, the environment's own."""
    action_space: spaces.Space[Any]
    """The environment's."""
    wrapping: Wrapping = NO_WRAPPING
    inside: InsideWrappers = NO_WRAPPERS
    """Gymnasium wrappers between the environment and the vec-env wrappers."""

    @cached_property
    def chains(self) -> dict[str, ObservationChain]:
        """The processing of each array of an observation, by name.

        Raises:
            SpaceError: The statistics or the frame stack do not fit the policy.
        """
        return observation_chains(self.observation_space, self.wrapping, self.statistics)

    @property
    def frame_space(self) -> Space | DictSpace:
        """The environment's observation space: one raw frame of each array."""
        if self.inside.observation:
            return space_from_gymnasium(self.inside.observation[0].env.observation_space)
        frames = {name: chain.frame for name, chain in self.chains.items()}
        if isinstance(self.observation_space, spaces.Dict):
            return space_from_gymnasium(spaces.Dict(frames))
        return space_from_gymnasium(frames[OBS])

    @property
    def policy_action_space(self) -> spaces.Space[Any]:
        """The space of the policy's actions, which the wrappers turn into the environment's."""
        action = self.inside.action
        return action[-1].action_space if action else self.action_space

    def predict(
        self,
        observation: Array | Inputs,
        state: FrameHistory | None = None,
        *,
        deterministic: bool = True,
    ) -> tuple[Array, FrameHistory | None]:
        """Actions for a batch of raw observations, and the earlier frames for the next step.

        Args:
            observation: Array with a batch axis; a mapping of these for a space with keys.
            state: The frames that the last call returned; ``None`` at the start of an episode.
            deterministic: Whether to return the distribution's mode; otherwise a sample.
        """
        inputs = dict(observation) if isinstance(observation, Mapping) else {OBS: observation}
        stacked = [name for name, chain in self.chains.items() if chain.n_stack > 1]
        if not stacked:
            return self.actions(inputs, deterministic), None
        batch = len(next(iter(inputs.values())))
        state = state or tuple(self.chains[name].first_state(batch) for name in stacked)
        earlier = zip(stacked, state, strict=True)
        inputs |= {state_name(name): array for name, array in earlier}
        return self.actions(inputs, deterministic), tuple(self.next_states(inputs).values())

    def actions(self, inputs: Inputs, deterministic: bool = True) -> Array:
        """Actions, ready for ``env.step``."""
        actions, _ = self.policy.predict(
            self.network_observation(inputs), deterministic=deterministic
        )
        actions = action_from_sb3(np.asarray(actions), self.policy_action_space)
        return self.inside.act(np.asarray(actions))

    def next_states(self, inputs: Inputs) -> dict[str, Array]:
        """The earlier frames for the next step, by the observation's name."""
        found = {}
        for name, chain in self.chains.items():
            if chain.n_stack > 1:
                frames = self.inside.observe(inputs[name])
                _, following = chain.apply(frames, inputs[state_name(name)])
                assert following is not None
                found[name] = following
        return found

    def parameters(self, inputs: Inputs) -> Array:
        """Output of the last layer: mean or logits, ``(batch, n)``.

        The mean is in the environment's units, unless the policy squashes it.
        """
        with torch.no_grad():
            parameters: Array = self.policy.action_net(self.latent(inputs)).cpu().numpy()
        if self.policy.squash_output or not self.inside.action:
            return parameters
        scale, shift = (each.flatten() for each in (self.inside.scale, self.inside.shift))
        return (scale * parameters + shift).astype(parameters.dtype)

    def latent(self, inputs: Inputs) -> torch.Tensor:
        """Input of the last layer, ``(batch, latent)``."""
        tensor, _ = self.policy.obs_to_tensor(self.network_observation(inputs))
        with torch.no_grad():
            features = super(ActorCriticPolicy, self.policy).extract_features(
                tensor, self.policy.pi_features_extractor
            )
            return self.policy.mlp_extractor.forward_actor(features)

    def network_observation(self, inputs: Inputs) -> Any:
        """The observation that ``policy.predict`` takes: normalised, stacked, transposed."""
        arrays = {
            name: chain.apply(
                self.inside.observe(inputs[name]),
                inputs[state_name(name)] if chain.n_stack > 1 else None,
            )[0]
            for name, chain in self.chains.items()
        }
        observation = arrays if isinstance(self.observation_space, spaces.Dict) else arrays[OBS]
        return observation_to_sb3(observation, self.observation_space)
