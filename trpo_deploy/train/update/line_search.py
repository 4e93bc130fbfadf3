"""Backtracking line search within the trust region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trpo_deploy.train.update.flat import split_like


@dataclass(frozen=True)
class LineSearch:
    """Result of a line search."""

    step: float
    """Accepted fraction of the full step; zero if no step was accepted."""
    surrogate: float
    """Surrogate at the accepted point."""
    kl: float
    """KL at the accepted point."""


def line_search(
    parameters: Sequence[nn.Parameter],
    full_step: Tensor,
    evaluate: Callable[[], tuple[Tensor, Tensor]],
    surrogate_before: Tensor,
    max_kl: float,
    shrinking_factor: float,
    max_steps: int,
) -> LineSearch:
    """Shrink a step until the surrogate improves and the KL is inside the trust region.

    Args:
        parameters: Moved to the accepted point, or left as they were if there is none.
        full_step: Longest step to try, flat.
        evaluate: Returns surrogate and KL at the current parameters; called without gradients.
        surrogate_before: The surrogate must exceed this value.
        max_kl: The KL must stay below this value.
        shrinking_factor: Factor between two tries, in (0, 1).
        max_steps: Maximum number of tries.
    """
    before = [parameter.detach().clone() for parameter in parameters]
    steps = split_like(full_step, parameters)
    fraction = 1.0
    with torch.no_grad():
        for _ in range(max_steps):
            for parameter, start, step in zip(parameters, before, steps, strict=True):
                parameter.copy_(start + fraction * step)
            surrogate, kl = evaluate()
            # Comparisons with NaN are false, so a step into NaN is never accepted.
            if bool(kl < max_kl) and bool(surrogate > surrogate_before):
                return LineSearch(fraction, surrogate.item(), kl.item())
            fraction *= shrinking_factor
        for parameter, start in zip(parameters, before, strict=True):
            parameter.copy_(start)
    return LineSearch(0.0, surrogate_before.item(), 0.0)
