"""Samples the actions of a rollout as the policy's distribution would."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.mlp.noise import bernoulli_draw, categorical_draw, normal_noise
from trpo_deploy.train.mlp.step_arithmetic import StepArithmetic

Sampler: TypeAlias = Callable[[int, Array, Array], tuple[Array, Array]]
"""From the step and the last layer's input and output, ``(envs, n)``, to the actions.

The first result is the distribution's actions, the second the actions for the environments.
"""


def make_sampler(arithmetic: StepArithmetic, model: OnPolicyAlgorithm, n_steps: int) -> Sampler:
    """Sampler of a rollout, with the random numbers that torch's distributions would draw."""
    space, distribution = model.action_space, model.policy.action_dist
    if not isinstance(space, spaces.Box):
        return _discrete_sampler(model, n_steps)
    low, high = _rows(space.low, model.n_envs), _rows(space.high, model.n_envs)
    if isinstance(distribution, StateDependentNoiseDistribution):
        return partial(_state_dependent, model.policy, distribution, low, high)
    deviation = _rows(model.policy.log_std.detach().exp().numpy(), model.n_envs)
    noise = normal_noise(n_steps, deviation.shape)
    if model.policy.squash_output:
        return partial(_squashed, model.policy, noise, deviation, low.shape)

    def gaussian(step: int, _: Array, mean: Array) -> tuple[Array, Array]:
        return arithmetic.explored(mean, noise[step], deviation, low, high)

    return gaussian


def _rows(values: Array, n_envs: int) -> Array:
    """The same values for each environment."""
    return np.broadcast_to(values, (n_envs, *values.shape)).copy()


def _discrete_sampler(model: OnPolicyAlgorithm, n_steps: int) -> Sampler:
    draw = _discrete_draw(model, n_steps)

    def discrete(step: int, _: Array, logits: Array) -> tuple[Array, Array]:
        actions = draw(step, logits)
        return actions, actions

    return discrete


def _discrete_draw(model: OnPolicyAlgorithm, n_steps: int) -> Callable[[int, Array], Array]:
    space = model.action_space
    if isinstance(space, spaces.Discrete):
        draw = categorical_draw(n_steps, model.n_envs, [int(space.n)])
        return lambda step, logits: draw(step, logits)[:, 0]
    if isinstance(space, spaces.MultiDiscrete):
        return categorical_draw(n_steps, model.n_envs, space.nvec.tolist())
    assert isinstance(space, spaces.MultiBinary)
    return lambda _, logits: bernoulli_draw(logits)


def _squashed(
    policy: BasePolicy,
    noise: Array,
    deviation: Array,
    shape: tuple[int, ...],
    step: int,
    _: Array,
    mean: Array,
) -> tuple[Array, Array]:
    """Actions of a Gaussian that the policy squashes for the environment."""
    actions: Array = (mean + noise[step] * deviation).reshape(shape)
    return actions, policy.unscale_action(actions)


def _state_dependent(
    policy: BasePolicy,
    distribution: StateDependentNoiseDistribution,
    low: Array,
    high: Array,
    _: int,
    latent: Array,
    mean: Array,
) -> tuple[Array, Array]:
    """Actions of gSDE; mirrors ``get_noise`` in its choice of one noise matrix or several."""
    matrices = distribution.exploration_matrices
    latent = latent.reshape(len(latent), -1)  # without a hidden layer it is the observation
    if len(latent) == 1 or len(latent) != len(matrices):
        noise = np.dot(latent, distribution.exploration_mat.detach().numpy())
    else:
        noise = np.matmul(latent[:, None], matrices.detach().numpy())[:, 0]
    actions: Array = (mean + noise).reshape(low.shape)
    if distribution.bijector is None:
        return actions, np.minimum(np.maximum(actions, low), high)
    # NumPy's tanh differs in the last digit, which changes log-probabilities near the bounds.
    actions = torch.tanh(torch.from_numpy(actions)).numpy()
    return actions, policy.unscale_action(actions)
