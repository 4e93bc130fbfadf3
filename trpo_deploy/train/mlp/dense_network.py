"""A dense network on the parameters of torch modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from trpo_deploy.train.mlp.activation_kernels import ActivationKernels, activation_kernels


@dataclass(frozen=True, eq=False)
class DenseNetwork:
    """``x -> W_n phi(... phi(W_1 x + b_1) ...) + b_n``."""

    linears: tuple[nn.Linear, ...]
    activations: tuple[ActivationKernels, ...]
    """One after each layer but the last."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Weight and bias of each layer, in order."""
        return [parameter for linear in self.linears for parameter in linear.parameters()]


def dense_network(modules: Sequence[nn.Module]) -> DenseNetwork | None:
    """Alternating linear layers and known activations as a network, or None for anything else."""
    linears = [module for module in modules[::2] if type(module) is nn.Linear]
    activations = [activation_kernels(module) for module in modules[1::2]]
    if len(linears) != len(modules[::2]):
        return None
    # A pruned layer has other parameters, from which it computes its weight.
    if any([name for name, _ in each.named_parameters()] != ["weight", "bias"] for each in linears):
        return None
    known = tuple(activation for activation in activations if activation is not None)
    return DenseNetwork(tuple(linears), known) if len(known) == len(activations) else None
