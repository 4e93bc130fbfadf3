"""A trained policy as Stable-Baselines3 runs it, from raw observation to environment's action."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import BernoulliDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch.nn.functional import softplus

from trpo_deploy.envs.space_translation import action_from_sb3, observation_to_sb3
from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.sb3.observation_chain import (
    NO_WRAPPING,
    ObservationChain,
    Wrapping,
    observation_chains,
)
from trpo_deploy.spec.policy_spec import OBS
from trpo_deploy.spec.spaces import Array, DictSpace, Space

State: TypeAlias = tuple[Array, ...]
Inputs: TypeAlias = Mapping[str, Array]
"""A batch of raw observations and of earlier frames, by the names that an ONNX file uses."""


def state_name(name: str) -> str:
    """The input of an observation's earlier frames."""
    return f"state_{name}"


@dataclass(frozen=True, eq=False)
class SB3Policy:
    """What the vec-env wrappers do, then ``policy.predict``.

    SB3's own classes do the arithmetic, so this is what an exported file is held against.
    """

    policy: ActorCriticPolicy
    statistics: VecNormalize | None
    observation_space: spaces.Space[Any]
    """As the zip has it; the environment's own where a start or several axes matter."""
    action_space: spaces.Space[Any]
    """The environment's."""
    wrapping: Wrapping = NO_WRAPPING

    @cached_property
    def chains(self) -> dict[str, ObservationChain]:
        """What happens to each array of an observation.

        Raises:
            SpaceError: the statistics or the frame stack do not fit the policy.
        """
        return observation_chains(self.observation_space, self.wrapping, self.statistics)

    @property
    def frame_space(self) -> Space | DictSpace:
        """What the environment gives: one frame of each array, raw."""
        frames = {name: chain.frame for name, chain in self.chains.items()}
        if isinstance(self.observation_space, spaces.Dict):
            return space_from_gymnasium(spaces.Dict(frames))
        return space_from_gymnasium(frames[OBS])

    def predict(
        self,
        observation: Array | Inputs,
        state: State | None = None,
        *,
        deterministic: bool = True,
    ) -> tuple[Array, State | None]:
        """Actions for a batch of raw observations, and the state for the next step.

        Args:
            observation: with a batch axis; a mapping for a space with keys.
            state: what the last call gave; ``None`` at the start of an episode.
            deterministic: the most likely action, or one drawn at random.
        """
        frames = dict(observation) if isinstance(observation, Mapping) else {OBS: observation}
        stacked = [name for name, chain in self.chains.items() if chain.n_stack > 1]
        if stacked:
            batch = len(next(iter(frames.values())))
            state = state or tuple(self.chains[name].first_state(batch) for name in stacked)
            earlier = zip(stacked, state, strict=True)
            frames |= {state_name(name): array for name, array in earlier}
        return self.actions(frames, deterministic), tuple(
            self.next_states(frames).values()
        ) if stacked else None

    def actions(self, inputs: Inputs, deterministic: bool = True) -> Array:
        """Actions, ready for the environment."""
        actions, _ = self.policy.predict(self._observation(inputs), deterministic=deterministic)
        return np.asarray(action_from_sb3(np.asarray(actions), self.action_space))

    def next_states(self, inputs: Inputs) -> dict[str, Array]:
        """The earlier frames at the next step, by the observation's name."""
        found = {}
        for name, chain in self.chains.items():
            if chain.n_stack > 1:
                state = inputs[state_name(name)]
                _, following = chain.apply(inputs[name], state)
                assert following is not None
                found[name] = following
        return found

    @contextmanager
    def weights_one_ulp_off(self, rng: np.random.Generator) -> Iterator[None]:
        """Within the block, each weight is one of its two neighbours among float32 numbers."""
        weights = list(self.policy.parameters())
        before = [each.detach().clone() for each in weights]
        try:
            with torch.no_grad():
                for each in weights:
                    up = torch.as_tensor(rng.random(tuple(each.shape)) < 0.5).to(each.device)
                    bound = torch.where(up, torch.inf, -torch.inf).to(each.dtype)
                    each.copy_(torch.nextafter(each, bound))
            yield
        finally:
            with torch.no_grad():
                for each, old in zip(weights, before, strict=True):
                    each.copy_(old)

    def parameters(self, inputs: Inputs) -> Array:
        """What the last layer gives: mean or logits, ``(batch, n)``."""
        with torch.no_grad():
            parameters: Array = self.policy.action_net(self._latent(inputs)).cpu().numpy()
        return parameters

    def outputs(self, inputs: Inputs) -> dict[str, Array]:
        """All that an ONNX file can be asked for beside the action, as torch computes it.

        Returns:
            ``value``, ``log_prob`` and ``margin`` of shape ``(batch,)``; ``mean`` and ``std`` of
            the action's shape; ``logits`` as the last layer gives them.
        """
        with torch.no_grad():
            latent = self._latent(inputs)
            distribution: Any = self.policy._get_action_dist_from_latent(latent)
            tensor, _ = self.policy.obs_to_tensor(self._observation(inputs))
            value = self.policy.predict_values(tensor).flatten()
            if not isinstance(self.action_space, spaces.Box):
                mode = distribution.mode()
                found = {"logits": self.policy.action_net(latent), "margin": _margin(distribution)}
            else:
                normal = distribution.distribution
                shape = (-1, *self.action_space.shape)
                found = {"mean": normal.mean.reshape(shape), "std": normal.stddev.reshape(shape)}
                mode = self._gaussian_action(normal.mean)
            found |= {"value": value, "log_prob": self._log_prob(distribution, mode)}
        return {name: tensor.cpu().numpy() for name, tensor in found.items()}

    def _gaussian_action(self, mean: torch.Tensor) -> torch.Tensor:
        """The action given, as a value of the Gaussian: clipped, or to be squashed later."""
        assert isinstance(self.action_space, spaces.Box)
        if self.policy.squash_output:
            return mean
        low, high = (
            torch.as_tensor(bound.astype(np.float32)).flatten()
            for bound in (self.action_space.low, self.action_space.high)
        )
        return mean.clamp(low, high)

    def _log_prob(self, distribution: Any, mode: torch.Tensor) -> torch.Tensor:
        if not self.policy.squash_output:
            log_prob: torch.Tensor = distribution.log_prob(mode)
            return log_prob
        # Of the squashed action in [-1, 1], as SB3 means it, but without going through tanh and
        # its inverse, which are wrong where tanh saturates: 1 - tanh(m)² = 4 / (eᵐ + e⁻ᵐ)².
        gaussian: torch.Tensor = distribution.distribution.log_prob(mode).sum(dim=1)
        size = mode.abs()
        slope = torch.exp(2.0 * (math.log(2.0) - size - softplus(-2.0 * size)))
        return gaussian - torch.log(slope + 1e-6).sum(dim=1)

    def _latent(self, inputs: Inputs) -> torch.Tensor:
        tensor, _ = self.policy.obs_to_tensor(self._observation(inputs))
        with torch.no_grad():
            features = super(ActorCriticPolicy, self.policy).extract_features(
                tensor, self.policy.pi_features_extractor
            )
            return self.policy.mlp_extractor.forward_actor(features)

    def _observation(self, inputs: Inputs) -> Any:
        """What ``policy.predict`` is given."""
        arrays = {
            name: chain.apply(inputs[name], inputs.get(state_name(name)))[0]
            for name, chain in self.chains.items()
        }
        observation = arrays if isinstance(self.observation_space, spaces.Dict) else arrays[OBS]
        return observation_to_sb3(observation, self.observation_space)


def _margin(distribution: Any) -> torch.Tensor:
    """How far the least certain number of an action is from another value, ``(batch,)``."""
    if isinstance(distribution, BernoulliDistribution):
        return (distribution.distribution.probs - 0.5).abs().min(dim=1).values
    parts = distribution.distribution
    margins = []
    for part in parts if isinstance(parts, list) else [parts]:
        best = part.probs.topk(min(2, part.probs.shape[1]), dim=1).values
        margins.append(best[:, 0] - best[:, 1] if best.shape[1] > 1 else best[:, 0])
    return torch.stack(margins, dim=1).min(dim=1).values
