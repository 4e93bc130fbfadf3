"""The mode of the distribution as the action that the environment takes."""

from __future__ import annotations

import numpy as np

from trpo_deploy.export.graph.distribution import PARAMETERS, Distribution
from trpo_deploy.export.policy.categories import first_categories
from trpo_deploy.spec.spaces import (
    BoxSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
)


def add_action(distribution: Distribution, output: str) -> None:
    """Add the most likely action, clipped or scaled to the action space."""
    space = distribution.actor.action_space
    if isinstance(space, BoxSpace):
        _add_box_action(distribution, space, output)
    elif isinstance(space, MultiBinarySpace):
        _add_binary_action(distribution, space, output)
    else:
        assert isinstance(space, (DiscreteSpace, MultiDiscreteSpace))
        _add_categorical_action(distribution, space, output)


def _add_box_action(distribution: Distribution, space: BoxSpace, output: str) -> None:
    graph = distribution.graph
    low, high = space.inner_bounds
    name = PARAMETERS
    if len(space.shape) != 1:
        name = graph.reshape(name, [-1, *space.shape], "/mean_shaped")
    lower = graph.constant("/action_low", low)
    if distribution.actor.squash:
        scale = graph.constant("/half_range", space.half_range)
        one = graph.constant("/one", 1.0)
        name = graph.add("Tanh", [name], "/squashed")
        name = graph.add("Mul", [graph.add("Add", [name, one], "/shifted"), scale], "/scaled")
        name = graph.add("Add", [name, lower], "/unscaled")
    # Max and Min instead of Clip, whose bounds must be scalars. A scaled action is clipped as
    # well, since it may exceed the bounds by a rounding error.
    upper = graph.constant("/action_high", high)
    name = graph.add("Max", [name, lower], "/bounded_below")
    graph.add("Min", [name, upper], output)


def _add_binary_action(distribution: Distribution, space: MultiBinarySpace, output: str) -> None:
    graph = distribution.graph
    name = graph.reshape(distribution.bernoulli(), [-1, *space.shape], "/probabilities_shaped")
    half = graph.constant("/threshold", 0.5)
    # Same as round(p), which rounds 0.5 to zero.
    graph.cast(graph.add("Greater", [name, half], "/is_one"), np.int8, output)


def _add_categorical_action(
    distribution: Distribution, space: DiscreteSpace | MultiDiscreteSpace, output: str
) -> None:
    graph = distribution.graph
    # ArgMax of probabilities, as in Stable-Baselines3: different logits can round to equal
    # probabilities.
    parts = [
        graph.add("ArgMax", [group.probabilities], f"{group.name}/index", axis=2, keepdims=0)
        for group in distribution.groups()
    ]
    name = graph.concat(parts, 1, "/indices")
    starts = first_categories(space)
    if starts.any():
        name = graph.add("Add", [name, graph.constant("/start", starts, np.int64)], "/counted")
    graph.reshape(name, [-1, *space.shape], output)
