"""A dense network on the parameters of torch modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import nn

from trpo_deploy.train.mlp.activation_kernels import ActivationKernels, activation_kernels
from trpo_deploy.train.update.as_written import computes_as

Transform: TypeAlias = nn.Linear | nn.LayerNorm


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """``x -> phi(W x + b)``, or the same with a layer norm in place of the linear map."""

    transform: Transform
    activation: ActivationKernels | None
    """None for the identity."""


@dataclass(frozen=True, eq=False)
class DenseNetwork:
    """Layers one after another; the last is linear."""

    layers: tuple[DenseLayer, ...]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Weight and bias of each layer, in order."""
        return [each for layer in self.layers for each in layer.transform.parameters()]


def dense_network(modules: Iterable[nn.Module]) -> DenseNetwork | None:
    """Modules in this order as a network, or None if they contain anything but these layers."""
    layers: list[DenseLayer] = []
    for module in _flattened(modules):
        if isinstance(module, (nn.Linear, nn.LayerNorm)):
            if not _is_standard(module):
                return None
            layers.append(DenseLayer(module, None))
            continue
        activation = activation_kernels(module)
        if activation is None or not layers or layers[-1].activation is not None:
            return None
        layers[-1] = DenseLayer(layers[-1].transform, activation)
    if not layers or type(layers[-1].transform) is not nn.Linear or layers[-1].activation:
        return None
    return DenseNetwork(tuple(layers))


def _flattened(modules: Iterable[Any]) -> Iterator[nn.Module]:
    """The modules, with the parts of each sequence in its place."""
    for module in modules:
        if computes_as(module, nn.Sequential, but=frozenset(("__init__",))):
            yield from _flattened(module)
        else:
            yield module


def _is_standard(transform: Transform) -> bool:
    """Whether a module computes what its class says, from a weight and a bias."""
    if isinstance(transform, nn.LayerNorm) and len(transform.normalized_shape) != 1:
        return False
    # A pruned layer has other parameters, from which it computes its weight.
    names = [name for name, _ in transform.named_parameters()]
    return type(transform) in (nn.Linear, nn.LayerNorm) and names == ["weight", "bias"]
