"""A policy's networks in an unrolled rollout: the actor at each step, all else at its end."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Protocol

import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.mlp.actor import MlpActor
from trpo_deploy.train.mlp.dense_network import DenseLayer
from trpo_deploy.train.mlp.dense_products import DenseProducts
from trpo_deploy.train.mlp.rollout_observations import make_features
from trpo_deploy.train.mlp.standard_mlp import StandardMlp, network_input
from trpo_deploy.train.mlp.step_arithmetic import StepArithmetic
from trpo_deploy.train.mlp.step_numpy import StepLayer
from trpo_deploy.train.update.samples import map_arrays

CHUNK = 512
"""Samples that an extractor gets at once, since those of images take memory."""


class StepNetworks(Protocol):
    """Actor and critic of one rollout."""

    def act(self, observations: Any, tensors: Any) -> tuple[Array, Array]:
        """Input and output of the action layer, ``(n_envs, n)``; the next call may overwrite both.

        Args:
            observations: Those of the step, ``(n_envs, ...)`` or a dict of these.
            tensors: The same, in memory that stays until the end of the rollout.
        """
        ...

    def evaluate(self, observations: Any, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Values and log-probabilities of all samples, ``(samples,)``, after the last step.

        Args:
            observations: Tensor ``(samples, ...)``, or a dict of these.
            actions: ``(samples, ...)``.
        """
        ...


class MlpNetworks:
    """:class:`StepNetworks` of a standard MLP, without torch in a step."""

    def __init__(
        self, model: OnPolicyAlgorithm, mlp: StandardMlp, arithmetic: StepArithmetic
    ) -> None:
        self._policy, self._mlp = model.policy, mlp
        self._features = make_features(model.observation_space, model.n_envs)
        self._forward = arithmetic.forward_pass(
            [_step_layer(layer) for layer in mlp.actor.layers], model.n_envs
        )

    def act(self, observations: Any, tensors: Any) -> tuple[Array, Array]:  # noqa: ARG002
        """Input and output of the action layer."""
        return self._forward(self._features(observations))

    @torch.no_grad()
    def evaluate(self, observations: Any, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Values and log-probabilities of all samples."""
        policy: Any = self._policy
        features = network_input(policy, observations, policy.vf_features_extractor)
        values = DenseProducts(self._mlp.critic, len(features)).forward(features)
        distribution = MlpActor(policy, self._mlp, observations).distribution()
        return values.flatten(), distribution.log_prob(actions)


def _step_layer(layer: DenseLayer) -> StepLayer:
    transform = layer.transform
    weight, bias = transform.weight.detach().numpy(), transform.bias.detach().numpy()
    eps = transform.eps if isinstance(transform, nn.LayerNorm) else None
    return StepLayer(weight.T, bias, layer.activation, eps)


class ModuleNetworks:
    """:class:`StepNetworks` of any policy with SB3's methods, whatever its modules are.

    The log-probabilities are those of the latents that the actions were sampled from. A features
    extractor that actor and critic share runs once for each step, as in SB3.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self._policy = policy
        self._latents: list[Tensor] = []
        self._shared_features: list[Tensor] = []

    @torch.no_grad()
    def act(self, observations: Any, tensors: Any) -> tuple[Array, Array]:  # noqa: ARG002
        """Input and output of the action layer."""
        policy = self._policy
        features = network_input(policy, tensors, policy.pi_features_extractor)
        latent = policy.mlp_extractor.forward_actor(features)
        self._latents.append(latent)
        if policy.share_features_extractor:
            self._shared_features.append(features)
        return latent.numpy(), policy.action_net(latent).numpy()

    @torch.no_grad()
    def evaluate(self, observations: Any, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Values and log-probabilities of all samples."""
        policy = self._policy
        distribution = policy._get_action_dist_from_latent(torch.cat(self._latents))
        log_probs = distribution.log_prob(actions)
        if policy.share_features_extractor:
            latents = policy.mlp_extractor.forward_critic(torch.cat(self._shared_features))
            return policy.value_net(latents).flatten(), log_probs
        chunks = [slice(i, i + CHUNK) for i in range(0, len(actions), CHUNK)]
        values = [
            policy.predict_values(map_arrays(itemgetter(chunk), observations)) for chunk in chunks
        ]
        return torch.cat(values).flatten(), log_probs
