"""The log-probability of the returned action."""

from __future__ import annotations

import math

from trpo_deploy.export.graph.distribution import PARAMETERS, Distribution
from trpo_deploy.spec.spaces import BoxSpace, MultiBinarySpace

_SQUASH_EPSILON = 1e-6  # SB3's, in the density of a squashed Gaussian


def add_log_prob(distribution: Distribution, output: str) -> None:
    """Add the log-probability of the action, ``(batch,)``, summed over its numbers."""
    space = distribution.actor.action_space
    if isinstance(space, BoxSpace):
        each = _gaussian(distribution, space)
    elif isinstance(space, MultiBinarySpace):
        each = _bernoulli(distribution)
    else:
        each = _categorical(distribution)
    distribution.graph.reduce("ReduceSum", each, 1, output, keep=False)


def _bernoulli(distribution: Distribution) -> str:
    """``-softplus(-|logit|)``."""
    graph = distribution.graph
    size = graph.add("Abs", [PARAMETERS], "/log_prob/size")
    size = graph.add("Neg", [size], "/log_prob/negative")
    size = graph.add("Softplus", [size], "/log_prob/softplus")
    return graph.add("Neg", [size], "/log_prob/each")


def _categorical(distribution: Distribution) -> str:
    graph, parts = distribution.graph, []
    for group in distribution.groups():
        prefix = f"{group.name}/log_prob"
        name = graph.add("LogSoftmax", [group.logits], f"{prefix}/all", axis=2)
        parts.append(graph.reduce("ReduceMax", name, 2, f"{prefix}/best", keep=False))
    return graph.concat(parts, 1, "/log_prob/each")


def _gaussian(distribution: Distribution, space: BoxSpace) -> str:
    """Density of the clipped mean, or of the squashed mean in [-1, 1] as SB3 defines it."""
    graph = distribution.graph
    std = distribution.std()
    log_std = graph.add("Log", [std], "/log_prob/log_std")
    norm = graph.constant("/log_prob/norm", -0.5 * math.log(2.0 * math.pi))
    height = graph.add("Sub", [norm, log_std], "/log_prob/height")
    if distribution.actor.squash:
        return graph.add("Sub", [height, _log_slope(distribution)], "/log_prob/each")
    low, high = (bound.flatten() for bound in space.inner_bounds)
    lower = graph.constant("/log_prob/low", low)
    upper = graph.constant("/log_prob/high", high)
    action = graph.add("Max", [PARAMETERS, lower], "/log_prob/bounded_below")
    action = graph.add("Min", [action, upper], "/log_prob/bounded")
    distance = graph.add("Sub", [action, PARAMETERS], "/log_prob/distance")
    score = graph.add("Div", [distance, std], "/log_prob/score")
    square = graph.add("Mul", [score, score], "/log_prob/square")
    half = graph.constant("/log_prob/half", 0.5)
    square = graph.add("Mul", [square, half], "/log_prob/half_square")
    return graph.add("Sub", [height, square], "/log_prob/each")


def _log_slope(distribution: Distribution) -> str:
    """``log(1 - tanh(m)² + epsilon)`` without tanh: see ``SB3Policy._log_prob``."""
    graph, prefix = distribution.graph, "/log_prob/slope"
    two = graph.constant(f"{prefix}/two", 2.0)
    log_two = graph.constant(f"{prefix}/log_two", math.log(2.0))
    size = graph.add("Abs", [PARAMETERS], f"{prefix}/size")
    double = graph.add("Mul", [size, two], f"{prefix}/double")
    tail = graph.add("Neg", [double], f"{prefix}/negative")
    tail = graph.add("Softplus", [tail], f"{prefix}/tail")
    name = graph.add("Sub", [log_two, size], f"{prefix}/difference")
    name = graph.add("Sub", [name, tail], f"{prefix}/half_log")
    name = graph.add("Mul", [name, two], f"{prefix}/log")
    name = graph.add("Exp", [name], f"{prefix}/slope")
    epsilon = graph.constant(f"{prefix}/epsilon", _SQUASH_EPSILON)
    return graph.add("Log", [graph.add("Add", [name, epsilon], f"{prefix}/sum")], f"{prefix}/out")
