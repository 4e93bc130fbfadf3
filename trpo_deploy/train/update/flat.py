"""Parameters and gradients as one flat vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def flat_gradient(
    output: Tensor, parameters: Sequence[nn.Parameter], *, keep_graph: bool
) -> Tensor:
    """Gradient of a scalar with respect to all parameters, as one vector."""
    gradients = torch.autograd.grad(
        output, parameters, retain_graph=keep_graph, allow_unused=True, materialize_grads=True
    )
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def split_like(vector: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Views of a flat vector, shaped as the parameters."""
    parts = torch.split(vector, [parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]
