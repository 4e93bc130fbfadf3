"""From the last layer to the environment's action and the optional outputs, as nodes of a graph."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from trpo_deploy.errors import ExportError
from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.policy.network import ActorNetwork, FixedStd
from trpo_deploy.spec.policy_spec import ACTION, TensorSpec
from trpo_deploy.spec.spaces import (
    Array,
    BoxSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
)

PARAMETERS = "/parameters"
"""The last layer's output in every graph: flat means or logits, ``(batch, n)``."""
_SQUASH_EPSILON = 1e-6  # SB3's, in the density of a squashed Gaussian


def output_tensor(name: str, actor: ActorNetwork) -> TensorSpec:
    """The name, dtype and shape of an output.

    Raises:
        ExportError: the policy has no such output.
    """
    space = actor.action_space
    if name == ACTION:
        return TensorSpec(ACTION, str(space.dtype), space.shape)
    if name in ("value", "log_prob", "margin", "logits", "mean", "std"):
        _check_output(name, actor)
        shapes = {"mean": space.shape, "std": space.shape, "logits": actor.head.bias.shape}
        return TensorSpec(name, "float32", shapes.get(name, ()))
    raise ExportError(f"there is no output {name!r}")


def _check_output(name: str, actor: ActorNetwork) -> None:
    gaussian = actor.is_gaussian
    if (name in ("mean", "std") and not gaussian) or (name in ("logits", "margin") and gaussian):
        has = "mean and std" if gaussian else "logits and margin"
        raise ExportError(
            f"a policy with {actor.action_space.describe()} actions has no {name!r}; it has {has}"
        )
    if name in ("std", "log_prob") and gaussian and actor.std is None:
        raise ExportError(
            f"{name!r} cannot be exported: this zip of SB3 before 1.8 has gSDE with features of "
            "its own (sde_net_arch)"
        )


def number_sizes(space: DiscreteSpace | MultiDiscreteSpace) -> list[int]:
    """How many values each number of an action has."""
    if isinstance(space, DiscreteSpace):
        return [space.n]
    return [int(size) for size in space.nvec.flatten()]


@dataclass(frozen=True)
class Head:
    """Adds the action and what is asked for beside it."""

    graph: GraphBuilder
    actor: ActorNetwork
    latent: str
    """The last layer's input, ``(batch, latent)``."""

    def add(self, name: str, output: str) -> None:
        """Add one output of :func:`output_tensor` under a name; not for ``value``."""
        space = self.actor.action_space
        if name == ACTION:
            self._action(output)
        elif name == "logits":
            self.graph.add("Identity", [PARAMETERS], output)
        elif name == "mean":
            self.graph.reshape(PARAMETERS, [-1, *space.shape], output)
        elif name == "std":
            self.graph.reshape(self._batched_std(), [-1, *space.shape], output)
        elif name == "margin":
            self.graph.reduce("ReduceMin", self._margins(), 1, output, keep=False)
        else:
            assert name == "log_prob"
            self.graph.reduce("ReduceSum", self._log_probs(), 1, output, keep=False)

    # --- actions

    def _action(self, output: str) -> None:
        space, graph = self.actor.action_space, self.graph
        if isinstance(space, BoxSpace):
            self._box_action(space, output)
        elif isinstance(space, MultiBinarySpace):
            name = graph.reshape(self._bernoulli(), [-1, *space.shape], "/probabilities_shaped")
            half = graph.constant("/threshold", 0.5)
            # As round(p), which rounds a half to zero.
            graph.cast(graph.add("Greater", [name, half], "/is_one"), np.int8, output)
        else:
            assert isinstance(space, (DiscreteSpace, MultiDiscreteSpace))
            self._categorical_action(space, output)

    def _box_action(self, space: BoxSpace, output: str) -> None:
        graph = self.graph
        low, high = _float32_bounds(space)
        name = PARAMETERS
        if len(space.shape) != 1:
            name = graph.reshape(name, [-1, *space.shape], "/mean_shaped")
        lower = graph.constant("/action_low", low)
        if self.actor.squash:
            half_range = 0.5 * (space.high.astype(np.float64) - space.low)
            scale = graph.constant("/half_range", half_range)
            one = graph.constant("/one", 1.0)
            name = graph.add("Tanh", [name], "/squashed")
            name = graph.add("Mul", [graph.add("Add", [name, one], "/shifted"), scale], "/scaled")
            name = graph.add("Add", [name, lower], "/unscaled")
        # Max and Min and not Clip, whose bounds must be scalars. Scaling may leave the bounds by
        # a rounding error, so that both ways end here.
        upper = graph.constant("/action_high", high)
        name = graph.add("Max", [name, lower], "/bounded_below")
        graph.add("Min", [name, upper], output)

    def _categorical_action(self, space: DiscreteSpace | MultiDiscreteSpace, output: str) -> None:
        graph = self.graph
        # Of probabilities, as Stable-Baselines3 does: logits that differ may tie as such.
        parts = [
            graph.add("ArgMax", [group.probabilities], f"{group.name}/index", axis=2, keepdims=0)
            for group in self._groups()
        ]
        name = self._side_by_side(parts, "/indices")
        if np.any(space.start):
            start = np.atleast_1d(np.asarray(space.start)).flatten()
            name = graph.add("Add", [name, graph.constant("/start", start, np.int64)], "/counted")
        graph.reshape(name, [-1, *space.shape], output)

    def _side_by_side(self, parts: list[str], output: str) -> str:
        return parts[0] if len(parts) == 1 else self.graph.add("Concat", parts, output, axis=1)

    # --- distributions

    def _bernoulli(self) -> str:
        return self._once("Sigmoid", PARAMETERS, "/probabilities")

    def _groups(self) -> Iterator[_Group]:
        """Neighbouring numbers with as many values each, so that a graph stays small."""
        space = self.actor.action_space
        assert isinstance(space, (DiscreteSpace, MultiDiscreteSpace))
        sizes = number_sizes(space)
        offset = 0
        for index, (size, members) in enumerate(groupby(sizes)):
            count = len(list(members))
            width = count * size
            yield self._group(f"/group_{index}", offset, count, size, whole=width == sum(sizes))
            offset += width

    def _group(self, name: str, offset: int, count: int, size: int, *, whole: bool) -> _Group:
        graph = self.graph
        group = _Group(name, size, f"{name}/logits", f"{name}/probabilities")
        if not self._has(group.logits):
            logits = PARAMETERS
            if not whole:
                end = offset + count * size
                logits = graph.slice(logits, 1, offset, end, f"{name}/columns")
            graph.reshape(logits, [-1, count, size], group.logits)
        self._once("Softmax", group.logits, group.probabilities, axis=2)
        return group

    def _once(self, operator: str, name: str, output: str, **attributes: int) -> str:
        """A node that several outputs may ask for."""
        return (
            output if self._has(output) else self.graph.add(operator, [name], output, **attributes)
        )

    def _has(self, name: str) -> bool:
        return any(name in node.output for node in self.graph.nodes)

    def _margins(self) -> str:
        """How sure each number is, ``(batch, numbers)``."""
        graph = self.graph
        if isinstance(self.actor.action_space, MultiBinarySpace):
            half = graph.constant("/margin/half", 0.5)
            distance = graph.add("Sub", [self._bernoulli(), half], "/margin/distance")
            return graph.add("Abs", [distance], "/margin/margins")
        parts = []
        for group in self._groups():
            prefix, name = f"{group.name}/margin", group.probabilities
            index = graph.add("ArgMax", [name], f"{prefix}/index", axis=2, keepdims=1)
            values = graph.constant(f"{prefix}/values", np.arange(group.size), np.int64)
            best = graph.add("Equal", [index, values], f"{prefix}/is_best")
            best = graph.cast(best, np.float32, f"{prefix}/best")
            # The best one less one is at most zero, so that the second remains; a single value
            # has none, and its margin is its probability of one.
            others = graph.add("Sub", [name, best], f"{prefix}/others")
            first = graph.reduce("ReduceMax", name, 2, f"{prefix}/first", keep=False)
            second = graph.reduce("ReduceMax", others, 2, f"{prefix}/second", keep=False)
            parts.append(graph.add("Sub", [first, second], f"{prefix}/margin"))
        return self._side_by_side(parts, "/margin/margins")

    def _log_probs(self) -> str:
        """Of each number of the action, ``(batch, numbers)``."""
        graph = self.graph
        if self.actor.is_gaussian:
            return self._gaussian_log_probs()
        if isinstance(self.actor.action_space, MultiBinarySpace):
            size = graph.add("Abs", [PARAMETERS], "/log_prob/size")
            size = graph.add("Neg", [size], "/log_prob/negative")
            size = graph.add("Softplus", [size], "/log_prob/softplus")
            return graph.add("Neg", [size], "/log_prob/each")
        parts = []
        for group in self._groups():
            prefix = f"{group.name}/log_prob"
            name = graph.add("LogSoftmax", [group.logits], f"{prefix}/all", axis=2)
            parts.append(graph.reduce("ReduceMax", name, 2, f"{prefix}/best", keep=False))
        return self._side_by_side(parts, "/log_prob/each")

    def _gaussian_log_probs(self) -> str:
        """Of the clipped mean; of the squashed one in [-1, 1], as SB3 means it."""
        graph, space = self.graph, self.actor.action_space
        assert isinstance(space, BoxSpace)
        std = self._std()
        log_std = graph.add("Log", [std], "/log_prob/log_std")
        norm = graph.constant("/log_prob/norm", -0.5 * math.log(2.0 * math.pi))
        height = graph.add("Sub", [norm, log_std], "/log_prob/height")
        if self.actor.squash:
            return graph.add("Sub", [height, self._log_slope()], "/log_prob/each")
        low, high = (bound.flatten() for bound in _float32_bounds(space))
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

    def _log_slope(self) -> str:
        """``log(1 - tanh(m)² + epsilon)``, without the tanh: see ``SB3Policy._log_prob``."""
        graph, prefix = self.graph, "/log_prob/slope"
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
        return graph.add(
            "Log", [graph.add("Add", [name, epsilon], f"{prefix}/sum")], f"{prefix}/out"
        )

    def _std(self) -> str:
        """``(actions,)`` or ``(batch, actions)``."""
        std, graph = self.actor.std, self.graph
        assert std is not None
        if isinstance(std, FixedStd):
            exists = any(each.name == "/std/values" for each in graph.initializers)
            return "/std/values" if exists else graph.constant("/std/values", std.values)
        if self._has("/std/root"):
            return "/std/root"
        square = graph.add("Mul", [self.latent, self.latent], "/std/square")
        variance = graph.constant("/std/variance", std.variance)
        name = graph.add("MatMul", [square, variance], "/std/explored")
        epsilon = graph.constant("/std/epsilon", std.epsilon)
        return graph.add("Sqrt", [graph.add("Add", [name, epsilon], "/std/sum")], "/std/root")

    def _batched_std(self) -> str:
        name = self._std()
        if not isinstance(self.actor.std, FixedStd):
            return name
        shape = self.graph.add("Shape", [PARAMETERS], "/std/shape")
        return self.graph.add("Expand", [name, shape], "/std/expanded")


@dataclass(frozen=True)
class _Group:
    """Numbers of a categorical action that have as many values each."""

    name: str
    size: int
    logits: str
    """``(batch, numbers, size)``."""
    probabilities: str
    """Likewise."""


def _float32_bounds(space: BoxSpace) -> tuple[Array, Array]:
    """The action's bounds, rounded inwards so that a float64 environment accepts both."""
    low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    low = np.where(low < space.low, np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > space.high, np.nextafter(high, np.float32(-np.inf)), high)
    return low, high
