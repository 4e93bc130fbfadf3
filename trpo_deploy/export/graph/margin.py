"""How clearly the distribution prefers the returned action."""

from __future__ import annotations

import numpy as np

from trpo_deploy.export.graph.distribution import Distribution
from trpo_deploy.spec.spaces import MultiBinarySpace


def add_margin(distribution: Distribution, output: str) -> None:
    """Add the smallest margin of the action's numbers, ``(batch,)``.

    The margin of a number is the probability of its best value minus that of the second-best; for
    a binary number it is the distance of the probability from 0.5.
    """
    if isinstance(distribution.actor.action_space, MultiBinarySpace):
        margins = _binary_margins(distribution)
    else:
        margins = _categorical_margins(distribution)
    distribution.graph.reduce("ReduceMin", margins, 1, output, keep=False)


def _binary_margins(distribution: Distribution) -> str:
    graph = distribution.graph
    half = graph.constant("/margin/half", 0.5)
    distance = graph.add("Sub", [distribution.bernoulli(), half], "/margin/distance")
    return graph.add("Abs", [distance], "/margin/margins")


def _categorical_margins(distribution: Distribution) -> str:
    graph, parts = distribution.graph, []
    for group in distribution.groups():
        prefix, name = f"{group.name}/margin", group.probabilities
        index = graph.add("ArgMax", [name], f"{prefix}/index", axis=2, keepdims=1)
        values = graph.constant(f"{prefix}/values", np.arange(group.size), np.int64)
        best = graph.add("Equal", [index, values], f"{prefix}/is_best")
        best = graph.cast(best, np.float32, f"{prefix}/best")
        # Subtracting 1 from the best probability leaves the second-best as the maximum. A number
        # with a single value has none; its margin is its probability, 1.
        others = graph.add("Sub", [name, best], f"{prefix}/others")
        first = graph.reduce("ReduceMax", name, 2, f"{prefix}/first", keep=False)
        second = graph.reduce("ReduceMax", others, 2, f"{prefix}/second", keep=False)
        parts.append(graph.add("Sub", [first, second], f"{prefix}/margin"))
    return graph.concat(parts, 1, "/margin/margins")
