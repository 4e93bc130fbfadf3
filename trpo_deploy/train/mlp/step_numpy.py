"""The arithmetic of one rollout step, in NumPy; ``_step_compiled`` has the same functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.mlp.activation_kernels import ActivationKernels


class StepLayer(NamedTuple):
    """A layer of a dense network as arrays."""

    weight: Array
    """``(inputs, outputs)`` of a linear layer, ``(outputs,)`` of a layer norm."""
    bias: Array
    """``(outputs,)``."""
    activation: ActivationKernels | None = None
    """None for the identity."""
    norm_eps: float | None = None
    """Added to the variance by a layer norm; None for a linear layer."""


class DenseForward:
    """Forward pass of a dense network for a few observations, on copies of the weights.

    Args:
        layers: The layers, of which the last is linear.
        n_envs: Number of observations in a call.
    """

    def __init__(self, layers: Sequence[StepLayer], n_envs: int) -> None:
        # Contiguous weights and a row of biases for each observation: at this size NumPy takes as
        # long for a transposed matrix or a broadcast as for the arithmetic.
        self._layers = [
            layer._replace(
                weight=np.ascontiguousarray(layer.weight),
                bias=np.broadcast_to(layer.bias, (n_envs, len(layer.bias))).copy(),
            )
            for layer in layers
        ]

    def __call__(self, observations: Array) -> tuple[Array, Array]:
        """Input and output of the last layer; the next call may overwrite both.

        Args:
            observations: ``(n_envs, ...)``.
        """
        x = observations.reshape(len(observations), -1).astype(np.float32, copy=False)
        latent = x
        for weight, bias, activation, norm_eps in self._layers:
            latent = x
            x = np.dot(x, weight) if norm_eps is None else _normal_rows(x, norm_eps) * weight
            x += bias
            x = x if activation is None else activation.array(x)
        return latent, x


def _normal_rows(x: Array, eps: float) -> Array:
    """Rows with zero mean and unit variance, as of a layer norm."""
    width = x.shape[1]
    centred: Array = x - np.add.reduce(x, axis=1, keepdims=True) / width
    variances = np.einsum("rw,rw->r", centred, centred) / width
    centred /= np.sqrt(variances + np.float32(eps))[:, None]
    return centred


def forward_pass(layers: Sequence[StepLayer], n_envs: int) -> DenseForward:
    """Forward pass of a dense network; see :class:`DenseForward`."""
    return DenseForward(layers, n_envs)


def explored(
    mean: Array, noise: Array, deviation: Array, low: Array, high: Array
) -> tuple[Array, Array]:
    """Gaussian actions, and the same clipped to the bounds.

    Args:
        mean: Mean of the distribution, ``(n_envs, n)``.
        noise: Standard normal numbers, ``(n_envs, n)``.
        deviation: Standard deviation of the distribution, ``(n_envs, n)``.
        low: Lower bounds, ``(n_envs, ...)`` with n numbers in a row.
        high: Upper bounds, shaped likewise.

    Returns:
        Actions and clipped actions, both in the shape of the bounds.
    """
    actions = (mean + noise * deviation).reshape(low.shape)
    return actions, np.minimum(np.maximum(actions, low), high)


def updated_moments(batch: Array, mean: Array, var: Array, count: float) -> tuple[Array, Array]:
    """Running mean and variance with a batch added.

    Equal to ``RunningMeanStd.update`` up to rounding.

    Args:
        batch: ``(n, ...)``.
        mean: Mean of the earlier rows, ``(...)``.
        var: Variance of the earlier rows, ``(...)``.
        count: Number of the earlier rows.
    """
    return moments_with(*sums_around(mean, batch), len(batch), mean, var, count)


def sums_around(mean: Array, batch: Array) -> tuple[Array, Array]:
    """Sums of the distances of rows from a mean, and of their squares.

    Args:
        mean: ``(...)``.
        batch: ``(n, ...)``.
    """
    distances = batch - mean
    moved = np.add.reduce(distances, axis=0)
    distances *= distances
    return moved, np.add.reduce(distances, axis=0)


def moments_with(
    moved: Array, squares: Array, n: int, mean: Array, var: Array, count: float
) -> tuple[Array, Array]:
    """Running mean and variance with rows added, of which the sums are known.

    With d the distances of the new rows from the old mean, the sum of squares around the mean of
    all N rows is the old sum, plus the sum of d squared, minus the square of the sum of d over N.

    Args:
        moved: Sum of d, ``(...)``.
        squares: Sum of d squared, ``(...)``; overwritten.
        n: Number of new rows.
        mean: Mean of the earlier rows, ``(...)``.
        var: Variance of the earlier rows, ``(...)``.
        count: Number of the earlier rows.
    """
    total = count + n
    squares += var * count
    step = moved / total
    squares -= moved * step
    return mean + step, squares / total


def normalized(batch: Array, mean: Array, var: Array, epsilon: float, limit: float) -> Array:
    """Distance from the mean in standard deviations, clipped as in ``VecNormalize``.

    Args:
        batch: ``(n, ...)``.
        mean: ``(...)``.
        var: Variance, ``(...)``.
        epsilon: Added to the variance.
        limit: Distances are clipped to this absolute value.

    Returns:
        float32, in the shape of the batch.
    """
    scaled = batch - mean
    scaled /= np.sqrt(var + epsilon)
    np.maximum(scaled, -limit, out=scaled)
    np.minimum(scaled, limit, out=scaled)
    return np.asarray(scaled, np.float32)


def discounted(returns: Array, gamma: float, rewards: Array) -> Array:
    """Running discounted returns after one more step, ``(n_envs,)``, as in ``VecNormalize``."""
    return returns * gamma + rewards


def finite(values: Array) -> bool:
    """Whether all values are finite in float32, in which the policy computes."""
    # The sum of squares is large or NaN if a value is, and takes a third of the time. Squares
    # exceed the limit before values do; then the values themselves are checked.
    if float(np.vdot(values, values)) < _LARGE**2:
        return True
    with np.errstate(over="ignore"):
        return bool(np.isfinite(values.astype(np.float32)).all())


_LARGE = 1e38
"""Numbers well below this are finite in float32."""
