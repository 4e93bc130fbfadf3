"""The arithmetic of one step of a rollout, in NumPy.

``_step_compiled`` has the same functions compiled. For few environments NumPy's calls take longer
than the numbers, and push what MuJoCo needs next out of the processor's caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from trpo_deploy.spec.spaces import Array

if TYPE_CHECKING:
    from trpo_deploy.train.mlp.network import Activation

compiled: ModuleType | None
try:
    from trpo_deploy.train.mlp import _step_compiled as compiled
except ImportError:  # there was no C compiler when it was installed
    compiled = None


class Actor:
    """A dense network for a few observations at a time, with the weights as they are now.

    Args:
        weights: of each layer, ``(inputs, outputs)``.
        biases: of each layer, ``(outputs,)``.
        activations: one behind each layer but the last.
        n_envs: observations at a time.
    """

    def __init__(
        self,
        weights: Sequence[Array],
        biases: Sequence[Array],
        activations: Sequence[Activation],
        n_envs: int,
    ) -> None:
        # Contiguous, and a bias for each row: at this size NumPy takes as long for a transposed
        # matrix or a broadcast as for the numbers.
        self._weights = [np.ascontiguousarray(weight) for weight in weights]
        self._biases = [np.broadcast_to(bias, (n_envs, len(bias))).copy() for bias in biases]
        self._functions = [activation.array for activation in activations]

    def __call__(self, observations: Array) -> tuple[Array, Array]:
        """The last layer's input and output; the next call may overwrite both.

        Args:
            observations: ``(n_envs, ...)``.
        """
        x = observations.reshape(len(observations), -1).astype(np.float32, copy=False)
        for weight, bias, function in zip(
            self._weights, self._biases, self._functions, strict=False
        ):
            x = np.dot(x, weight)
            x += bias
            x = function(x)
        output = np.dot(x, self._weights[-1])
        output += self._biases[-1]
        return x, output


def explored(
    mean: Array, noise: Array, deviation: Array, low: Array, high: Array
) -> tuple[Array, Array]:
    """Gaussian actions, and what of them the environment takes.

    Args:
        mean: ``(n_envs, n)``, as are noise and deviation.
        noise: of a standard normal distribution.
        deviation: the distribution's.
        low: the environment's bounds, ``(n_envs, ...)``, n numbers each.
        high: likewise.

    Returns:
        The actions and the clipped actions, shaped as the bounds.
    """
    actions = (mean + noise * deviation).reshape(low.shape)
    return actions, np.minimum(np.maximum(actions, low), high)


def updated_moments(batch: Array, mean: Array, var: Array, count: float) -> tuple[Array, Array]:
    """Mean and variance with n rows more, as ``RunningMeanStd.update`` has them but for rounding.

    With d the distances of the new rows from the old mean, the squares around the mean of all N
    are those of before, plus the sum of d squared, less the square of the sum of d over N.

    Args:
        batch: ``(n, ...)``.
        mean: of the rows so far, ``(...)``.
        var: likewise.
        count: how many there were.
    """
    total = count + len(batch)
    distances = batch - mean
    moved = np.add.reduce(distances, axis=0)
    distances *= distances
    squares = np.add.reduce(distances, axis=0)
    squares += var * count
    step = moved / total
    squares -= moved * step
    return mean + step, squares / total


def normalized(batch: Array, mean: Array, var: Array, epsilon: float, limit: float) -> Array:
    """Distances from the mean in standard deviations, as ``VecNormalize`` has them.

    Args:
        batch: ``(n, ...)``.
        mean: ``(...)``.
        var: likewise.
        epsilon: added to the variance.
        limit: larger distances are cut to this.

    Returns:
        float32, shaped as the batch.
    """
    scaled = batch - mean
    scaled /= np.sqrt(var + epsilon)
    np.maximum(scaled, -limit, out=scaled)
    np.minimum(scaled, limit, out=scaled)
    return np.asarray(scaled, np.float32)


def discounted(returns: Array, gamma: float, rewards: Array) -> Array:
    """The running returns ``VecNormalize`` scales rewards by, one step on; ``(n_envs,)``."""
    return returns * gamma + rewards


def finite(values: Array) -> bool:
    """Whether all numbers are finite in float32, as the policy computes."""
    # The sum of squares is large or NaN if a value is, and takes a third of the time. That
    # squares are larger than values costs a second look, and no more.
    if float(np.vdot(values, values)) < _LARGE**2:
        return True
    with np.errstate(over="ignore"):
        return bool(np.isfinite(values.astype(np.float32)).all())


_LARGE = 1e38
"""What is well below this is finite in float32."""
