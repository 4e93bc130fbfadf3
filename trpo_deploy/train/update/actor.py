"""What the policy step needs of an actor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from stable_baselines3.common.distributions import Distribution
from torch import Tensor, nn

from trpo_deploy.train.update.kl import KLReduction


class Actor(Protocol):
    """A policy's action distribution over one batch of observations, with its derivatives.

    Call :meth:`distribution`, then :meth:`fisher_vector_product`, then :meth:`gradient`. The
    derivatives are taken at the parameters that the last :meth:`distribution` used.
    """

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that the distribution depends on, in the policy's order.

        Available after :meth:`fisher_vector_product`.
        """
        ...

    def distribution(self) -> Distribution:
        """Action distribution at the current parameters.

        The policy reuses one object: copy it to keep it beyond the next call.
        """
        ...

    def fisher_vector_product(
        self, old: Distribution, reduction: KLReduction, damping: float, rows: Any = None
    ) -> Callable[[Tensor], Tensor]:
        """``v -> (F + damping I) v``, with F the Hessian of the mean KL at the old policy.

        Args:
            old: Copy of the distribution at the current parameters, without gradients.
            reduction: Reduction of the KL over the dimensions of the action.
            damping: Added to the diagonal, so that the product is positive definite.
            rows: Index of the observations to use; None for all.
        """
        ...

    def gradient(self, objective: Tensor) -> Tensor:
        """Flat gradient of a scalar computed from the last distribution."""
        ...
