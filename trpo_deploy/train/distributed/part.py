"""A rank's part of samples that all ranks draw alike.

Flat index ``env * n_steps + step`` names a sample, as in a flattened ``RolloutBuffer``. The ranks
have consecutive environments, and so consecutive indices. All ranks draw the indices that one
process with all environments would draw, and each takes those of its own samples. A mean over the
drawn samples is the sum of the ranks' own means, each weighted with the rank's share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.distributed.world import world


@dataclass(frozen=True)
class Part:
    """This rank's part of drawn samples."""

    rows: Any = None
    """Index of its rows; None for all."""
    share: float = 1.0
    """Number of its rows divided by the number of drawn samples.

    A rank without a drawn sample has a row of share 0, since a mean of no rows is NaN.
    """
    n_drawn: int = 0
    """Number of drawn samples; 0 if unknown, where one process has them all."""

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the drawn samples, from the mean over this rank's rows."""
        ranks = world()
        return values if ranks.size == 1 else ranks.sum(values * self.share)

    def mean_and_variance(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and population variance over the drawn samples, in float64.

        Args:
            values: One for each of this rank's rows, ``(rows,)``.
        """
        exact = values.double()
        mean, square = self.mean(torch.stack([exact.mean(), (exact * exact).mean()]))
        return mean, (square - mean * mean).clamp(min=0)

    def average_gradients(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Average a loss and its gradients over the drawn samples, in one message.

        Args:
            loss: Mean over this rank's rows, a scalar.
            parameters: Their gradients are replaced.

        Returns:
            The mean over all drawn samples.
        """
        if world().size == 1:
            return loss
        gradients = [each.grad for each in parameters if each.grad is not None]
        flat = self.mean(torch.cat([loss.reshape(1), *(each.reshape(-1) for each in gradients)]))
        sizes = [each.numel() for each in gradients]
        for gradient, values in zip(gradients, torch.split(flat[1:], sizes), strict=True):
            gradient.copy_(values.view_as(gradient))
        return flat[0]


WHOLE = Part()
"""All samples of one process."""


def part_of(drawn: Array, n_own: int) -> Part:
    """This rank's part.

    Args:
        drawn: Indices into the samples of all ranks.
        n_own: Number of samples of each rank.
    """
    own = drawn[_is_own(drawn, n_own)] - world().rows(n_own).start
    return _part(own, len(drawn))


def sub_part(drawn: Array, n_own: int, every: int) -> Part:
    """The rows of ``part_of(drawn, n_own)`` that are in every k-th drawn sample."""
    places = np.flatnonzero(_is_own(drawn, n_own))
    return _part(np.flatnonzero(places % every == 0), -(-len(drawn) // every))


def _is_own(drawn: Array, n_own: int) -> Array:
    rows = world().rows(n_own)
    return np.asarray((drawn >= rows.start) & (drawn < rows.stop))


def _part(rows: Array, n_drawn: int) -> Part:
    return Part(rows if len(rows) else np.zeros(1, np.int64), len(rows) / n_drawn, n_drawn)
