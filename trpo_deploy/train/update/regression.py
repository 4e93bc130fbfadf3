"""The critic's regression on the rollout's returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

NOT_FINITE = "the critic's loss or gradient is not finite"


@dataclass(frozen=True)
class CriticFit:
    """Result of a regression."""

    loss: float
    """Mean squared error, averaged over the mini-batches."""
    refusal: str | None
    """Why the fit is unusable, or None."""


@dataclass(frozen=True)
class RegressionSettings:
    """How a regression steps through a rollout."""

    n_updates: int
    """Passes over the rollout."""
    batch_size: int | None
    """Samples in a mini-batch; None for the whole rollout."""
    max_grad_norm: float | None = None
    """Gradients are scaled down to this norm; None leaves them."""


class Regression(Protocol):
    """A regression of one update. It may run while the policy step is computed."""

    def commit(self) -> CriticFit:
        """Finish the regression and change the critic and its optimizer.

        If the fit is unusable, the optimizer is left as it was; the caller restores the policy's
        parameters.
        """
        ...

    def discard(self) -> None:
        """Drop the regression: critic, optimizer and random state stay as they were."""
        ...
