"""The actor of a standard MLP over one batch, with its derivatives written out.

For a distribution with parameters z, the network's output, the Fisher matrix is ``E[J^T M J]``:
J is the Jacobian of the network, M the Fisher matrix of the distribution in z. This is the
generalised Gauss-Newton form, exact for the KL at equality (Schulman et al. 2015, appendix C.1).
M has a closed form, so a product costs one forward and one backward pass over cached
activations. Autograd differentiates only what follows from the network's output.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import torch
from stable_baselines3.common.distributions import Distribution, StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from trpo_deploy.train.mlp.dense_products import DenseProducts
from trpo_deploy.train.mlp.fisher_metric import is_averaged, log_std_metric, output_metric
from trpo_deploy.train.mlp.standard_mlp import StandardMlp, network_input
from trpo_deploy.train.update.flat import split_like
from trpo_deploy.train.update.kl import KLReduction
from trpo_deploy.train.update.samples import map_arrays


class MlpActor:
    """:class:`~trpo_deploy.train.update.actor.Actor` for a standard MLP.

    Args:
        policy: The policy.
        mlp: The same policy as two networks.
        observations: Observations as the policy takes them, ``(batch, ...)`` or a dict of these.
    """

    def __init__(self, policy: ActorCriticPolicy, mlp: StandardMlp, observations: Any) -> None:
        self._policy, self._mlp, self._observations = policy, mlp, observations
        with torch.no_grad():
            self._features = network_input(policy, observations, policy.pi_features_extractor)
        self._distribution = policy.action_dist
        self._products = DenseProducts(mlp.actor, len(self._features))
        self._log_stds = [] if mlp.log_std is None else [mlp.log_std]
        self._output = self._features
        self.parameters = mlp.actor_parameters

    def distribution(self) -> Distribution:
        """Action distribution at the current parameters, in the policy's own object."""
        latent, output = self._products.forward_with_latent(self._features)
        # Copies: the next call overwrites what the products return.
        self._output = output.clone().requires_grad_()
        parameters = [self._output, *self._log_stds]
        if isinstance(self._distribution, StateDependentNoiseDistribution):
            parameters.append(latent.clone())
        set_parameters: Any = self._distribution.proba_distribution
        set_parameters(*parameters)
        return self._distribution

    @torch.no_grad()
    def fisher_vector_product(
        self, old: Distribution, reduction: KLReduction, damping: float, rows: Any = None
    ) -> Callable[[Tensor], Tensor]:
        """``v -> (F + damping I) v``; see :class:`~trpo_deploy.train.update.actor.Actor`."""
        if rows is not None:
            observations = map_arrays(itemgetter(rows), self._observations)
            actor = MlpActor(self._policy, self._mlp, observations)
            sub_sampled = copy.copy(actor.distribution())
            return actor.fisher_vector_product(sub_sampled, reduction, damping)
        batch, outputs = self._output.shape
        metric = output_metric(old)
        log_std_metrics = [log_std_metric(each, old, batch) for each in self._log_stds]
        dimensions = outputs if reduction == "mean" and is_averaged(old) else 1
        scale = 1.0 / (batch * dimensions)
        result, parts = self._flat()
        first = len(log_std_metrics)
        has_slopes = False

        @torch.no_grad()
        def product(vector: Tensor) -> Tensor:
            nonlocal has_slopes
            if not has_slopes:  # here: the surrogate's gradient is a single product
                self._products.keep_slopes(self._features)
                has_slopes = True
            direction = split_like(vector, self.parameters)
            moved = self._products.jacobian_product(self._features, direction[first:])
            outer = metric(moved).mul_(scale)
            self._products.transposed_product(self._features, outer, parts[first:])
            for part, each, apply in zip(parts, direction, log_std_metrics, strict=False):
                torch.mul(apply(each), scale, out=part)
            return result + damping * vector

        return product

    def gradient(self, objective: Tensor) -> Tensor:
        """Flat gradient of a scalar computed from the last distribution."""
        *of_log_std, of_output = torch.autograd.grad(objective, [*self._log_stds, self._output])
        result, parts = self._flat()
        for part, gradient in zip(parts, of_log_std, strict=False):
            part.copy_(gradient)
        self._products.transposed_product(self._features, of_output, parts[len(of_log_std) :])
        return result

    def _flat(self) -> tuple[Tensor, list[Tensor]]:
        """Memory for a flat vector, and its parts in the shapes of the parameters."""
        size = sum(parameter.numel() for parameter in self.parameters)
        flat = self._features.new_empty(size)
        return flat, split_like(flat, self.parameters)
