"""Layer norms and RMS norms of a traced extractor, by the operators of an exported graph.

torch writes a layer norm in a form that old engines compute less exactly and that targets such as C
do not have, and an RMS norm not at all. See ``docs/decisions/layer-norms.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trpo_deploy.export.policy.layers import Affine, Standardize
from trpo_deploy.export.reader.layers import read_layers


@contextmanager
def norms_written_out(module: nn.Module) -> Iterator[None]:
    """Let the norms in a module compute as in an exported graph, until the block ends.

    Norms over several axes, and those that a function computes, stay as they are.
    """
    norms: list[Any] = [each for each in module.modules() if _is_norm_of_rows(each)]
    for norm in norms:
        norm.forward = partial(_forward, norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _is_norm_of_rows(module: Any) -> bool:
    is_norm = type(module) in (nn.LayerNorm, getattr(nn, "RMSNorm", None))
    return is_norm and len(module.normalized_shape) == 1 and "forward" not in vars(module)


def _forward(norm: nn.Module, x: Tensor) -> Tensor:
    for layer in read_layers([norm]):
        if isinstance(layer, Standardize):
            x = _standardized(x, layer)
        else:
            assert isinstance(layer, Affine)
            x = x * torch.from_numpy(layer.weight) + torch.from_numpy(layer.bias)
    return x


def _standardized(x: Tensor, layer: Standardize) -> Tensor:
    """Mirrors :func:`~trpo_deploy.export.graph.normalization.add_standardize`."""
    column = torch.full((layer.width, 1), 1.0 / layer.width)
    if layer.subtracts_mean:
        x = x - x @ column
        x = x - x @ column
    return x / torch.sqrt((x * x) @ column + layer.epsilon)
