"""The arithmetic of one rollout step, in NumPy or compiled.

With few environments the overhead of NumPy's calls exceeds the arithmetic, and each call evicts
MuJoCo's working set from the cache. The compiled functions avoid both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeAlias

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.mlp import step_numpy
from trpo_deploy.train.mlp.standard_mlp import StandardMlp
from trpo_deploy.train.mlp.step_numpy import StepLayer

Forward: TypeAlias = Callable[[Array], tuple[Array, Array]]
"""From observations, ``(n_envs, ...)``, to input and output of a network's last layer.

The next call may overwrite both.
"""


class StepArithmetic(Protocol):
    """The functions of :mod:`~trpo_deploy.train.mlp.step_numpy`, documented there."""

    def forward_pass(self, layers: Sequence[StepLayer], n_envs: int) -> Forward:
        """Forward pass of a dense network for a few observations."""
        ...

    def explored(
        self, mean: Array, noise: Array, deviation: Array, low: Array, high: Array
    ) -> tuple[Array, Array]:
        """Gaussian actions, and the same clipped to the bounds."""
        ...

    def updated_moments(
        self, batch: Array, mean: Array, var: Array, count: float
    ) -> tuple[Array, Array]:
        """Running mean and variance with a batch added."""
        ...

    def normalized(
        self, batch: Array, mean: Array, var: Array, epsilon: float, limit: float
    ) -> Array:
        """Clipped distance from the mean, in standard deviations."""
        ...

    def discounted(self, returns: Array, gamma: float, rewards: Array) -> Array:
        """Running discounted returns after one more step."""
        ...

    def finite(self, values: Array) -> bool:
        """Whether all values are finite in float32."""
        ...


compiled: StepArithmetic | None = None
"""The compiled functions; None if the package was installed without a C compiler."""
compiled_activations: tuple[str, ...] = ()
"""Names of the activations that the compiled functions support."""
with suppress(ImportError):
    from trpo_deploy.train.mlp import _step_compiled

    compiled = _step_compiled
    compiled_activations = _step_compiled.ACTIVATIONS

fastest: StepArithmetic = compiled or step_numpy
"""The compiled functions if they are available, else NumPy's."""

COMPILED_MAX_ENVS = 8
"""With more environments NumPy's faster products outweigh the overhead of its calls."""


def choose_arithmetic(model: OnPolicyAlgorithm, mlp: StandardMlp | None) -> StepArithmetic:
    """The compiled functions, or NumPy's where those are faster or support more.

    Args:
        model: The algorithm.
        mlp: The policy as a standard MLP, or None if its own modules compute the forward pass.
    """
    space = model.action_space
    layers = () if mlp is None else mlp.actor.layers
    activations = [each.activation.name for each in layers if each.activation is not None]
    if (
        compiled is not None
        and model.n_envs <= COMPILED_MAX_ENVS
        and set(activations) <= set(compiled_activations)
        and (not isinstance(space, spaces.Box) or space.dtype == np.float32)
    ):
        return compiled
    return step_numpy
