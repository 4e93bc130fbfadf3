"""The outputs that an exported file can have in addition to the action, computed by torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import BernoulliDistribution
from torch.nn.functional import softplus

from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.spec.policy_spec import Inputs
from trpo_deploy.spec.spaces import Array


def extra_outputs(reference: SB3Policy, inputs: Inputs) -> dict[str, Array]:
    """The policy's value and the parameters of its action distribution.

    Returns:
        ``value`` and ``log_prob``, ``(batch,)``. For a Box also ``mean`` and ``std`` of the
        action's shape. For other spaces also ``logits``, as the last layer returns them, and
        ``margin``, ``(batch,)``.
    """
    policy = reference.policy
    with torch.no_grad():
        latent = reference.latent(inputs)
        distribution: Any = policy._get_action_dist_from_latent(latent)
        tensor, _ = policy.obs_to_tensor(reference.network_observation(inputs))
        if isinstance(reference.action_space, spaces.Box):
            normal = distribution.distribution
            shape = (-1, *reference.action_space.shape)
            mean, std = _in_env_units(reference, normal.mean, normal.stddev)
            found = {"mean": mean.reshape(shape), "std": std.reshape(shape)}
            mode = _gaussian_action(reference, normal.mean)
        else:
            found = {"logits": policy.action_net(latent), "margin": _margin(distribution)}
            mode = distribution.mode()
        found["value"] = policy.predict_values(tensor).flatten()
        found["log_prob"] = _log_prob(distribution, mode, squashed=policy.squash_output)
        if isinstance(reference.action_space, spaces.Box) and not policy.squash_output:
            found["log_prob"] = found["log_prob"] - _log_scale(reference)
    return {name: tensor.cpu().numpy() for name, tensor in found.items()}


def _in_env_units(
    reference: SB3Policy, mean: torch.Tensor, std: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The Gaussian behind the wrappers of actions; a squashed one is not scaled yet."""
    if reference.policy.squash_output:
        return mean, std
    scale, shift = (
        torch.as_tensor(each.astype(np.float32)).flatten()
        for each in (reference.inside.scale, reference.inside.shift)
    )
    return scale * mean.cpu() + shift, scale * std.cpu()


def _log_scale(reference: SB3Policy) -> float:
    """Logarithm of the volume that the wrappers of actions give to a unit of volume."""
    shape = reference.action_space.shape or ()
    return float(np.log(np.broadcast_to(reference.inside.scale, shape)).sum())


def _gaussian_action(reference: SB3Policy, mean: torch.Tensor) -> torch.Tensor:
    """The deterministic action in the Gaussian's space: clipped, or not squashed yet."""
    if reference.policy.squash_output:
        return mean
    space = reference.policy_action_space
    assert isinstance(space, spaces.Box)
    low, high = (
        torch.as_tensor(bound.astype(np.float32)).flatten() for bound in (space.low, space.high)
    )
    return mean.clamp(low, high)


def _log_prob(distribution: Any, mode: torch.Tensor, *, squashed: bool) -> torch.Tensor:
    """The log-probability of the deterministic action, ``(batch,)``.

    SB3 defines it for the squashed action in [-1, 1], and computes it through ``tanh`` and its
    inverse, which is wrong where ``tanh`` saturates. Here ``1 - tanh(m)^2`` is
    ``4 / (exp(m) + exp(-m))^2``.
    """
    if not squashed:
        log_prob: torch.Tensor = distribution.log_prob(mode)
        return log_prob
    gaussian: torch.Tensor = distribution.distribution.log_prob(mode).sum(dim=1)
    size = mode.abs()
    slope = torch.exp(2.0 * (math.log(2.0) - size - softplus(-2.0 * size)))
    return gaussian - torch.log(slope + 1e-6).sum(dim=1)


def _margin(distribution: Any) -> torch.Tensor:
    """Probability margin of the least certain component of an action, ``(batch,)``."""
    if isinstance(distribution, BernoulliDistribution):
        return (distribution.distribution.probs - 0.5).abs().min(dim=1).values
    parts = distribution.distribution
    margins = []
    for part in parts if isinstance(parts, list) else [parts]:
        best = part.probs.topk(min(2, part.probs.shape[1]), dim=1).values
        margins.append(best[:, 0] - best[:, 1] if best.shape[1] > 1 else best[:, 0])
    return torch.stack(margins, dim=1).min(dim=1).values
