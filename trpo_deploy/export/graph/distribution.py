"""The action distribution as nodes that the action and the optional outputs share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.policy.categories import category_counts
from trpo_deploy.export.policy.network import ActorNetwork, FixedStd
from trpo_deploy.spec.spaces import DiscreteSpace, MultiDiscreteSpace

PARAMETERS = "/parameters"
"""Output of the last layer in every graph: flat means or logits, ``(batch, n)``."""


@dataclass(frozen=True)
class CategoryGroup:
    """Neighbouring numbers of a categorical action that have equally many values."""

    name: str
    size: int
    logits: str
    """``(batch, numbers, size)``."""
    probabilities: str
    """``(batch, numbers, size)``."""


@dataclass(frozen=True)
class Distribution:
    """The distribution over actions whose parameters are :data:`PARAMETERS`."""

    graph: GraphBuilder
    actor: ActorNetwork
    latent: str
    """Input of the last layer, ``(batch, latent)``."""

    def bernoulli(self) -> str:
        """Probability of each one, ``(batch, n)``."""
        return self.graph.add_once("Sigmoid", [PARAMETERS], "/probabilities")

    def groups(self) -> Iterator[CategoryGroup]:
        """Numbers of a categorical action, grouped so that the graph stays small."""
        space = self.actor.action_space
        assert isinstance(space, (DiscreteSpace, MultiDiscreteSpace))
        sizes = category_counts(space).tolist()
        offset = 0
        for index, (size, members) in enumerate(groupby(sizes)):
            count = len(list(members))
            width = count * size
            yield self._group(f"/group_{index}", offset, count, size, whole=width == sum(sizes))
            offset += width

    def _group(
        self, name: str, offset: int, count: int, size: int, *, whole: bool
    ) -> CategoryGroup:
        graph = self.graph
        group = CategoryGroup(name, size, f"{name}/logits", f"{name}/probabilities")
        if not graph.has(group.logits):
            logits = PARAMETERS
            if not whole:
                end = offset + count * size
                logits = graph.slice(logits, 1, offset, end, f"{name}/columns")
            graph.reshape(logits, [-1, count, size], group.logits)
        graph.add_once("Softmax", [group.logits], group.probabilities, axis=2)
        return group

    def std(self) -> str:
        """Standard deviation of a Gaussian, ``(actions,)`` or ``(batch, actions)``."""
        std, graph = self.actor.std, self.graph
        assert std is not None
        if isinstance(std, FixedStd):
            name = "/std/values"
            return name if graph.has(name) else graph.constant(name, std.values)
        if graph.has("/std/root"):
            return "/std/root"
        square = graph.add("Mul", [self.latent, self.latent], "/std/square")
        variance = graph.constant("/std/variance", std.variance)
        name = graph.add("MatMul", [square, variance], "/std/explored")
        epsilon = graph.constant("/std/epsilon", std.epsilon)
        return graph.add("Sqrt", [graph.add("Add", [name, epsilon], "/std/sum")], "/std/root")

    def batched_std(self) -> str:
        """Standard deviation of a Gaussian, ``(batch, actions)``."""
        name = self.std()
        if not isinstance(self.actor.std, FixedStd):
            return name
        shape = self.graph.add("Shape", [PARAMETERS], "/std/shape")
        return self.graph.add("Expand", [name, shape], "/std/expanded")
