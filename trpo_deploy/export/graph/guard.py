"""An optional guard inside the file against NaN and infinities.

Engines disagree on NaN: Clip returns NaN or a bound, and ArgMax returns any index. With a guard,
an observation that is not finite gives a fixed safe action and a flag.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trpo_deploy.errors import ExportError
from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.policy.outputs import OBS_OK
from trpo_deploy.spec.policy_spec import GuardInfo
from trpo_deploy.spec.spaces import Array, BoxSpace, Space

UNGUARDED_ACTION = "/unguarded_action"
"""The action of the policy itself, before the choice of the safe one."""

_ALL = "/guard/all"
"""1 if all inputs are finite, else 0: float32, ``(batch, 1)``."""


def finite_input(key: str) -> str:
    """Name of the tensor with a guarded input's finite numbers, and zero for the others."""
    return f"/guard/{key}/clean"


def guard_info(actor: ActorNetwork, action: Array | None = None) -> GuardInfo:
    """The guard of a policy, for its spec.

    Args:
        actor: The policy.
        action: The safe action; :func:`safe_action` by default.

    Raises:
        ExportError: All inputs are integers, so they are always finite.
    """
    if not _float_inputs(actor):
        raise ExportError(
            "the policy takes only integers, so there is nothing to guard; leave out --guard"
        )
    return GuardInfo(OBS_OK, safe_action(actor.action_space) if action is None else action)


def safe_action(space: Space) -> Array:
    """The value of the space closest to zero; the first value of a discrete space."""
    if isinstance(space, BoxSpace):
        return np.clip(np.zeros(space.shape, space.dtype), *space.inner_bounds)
    start = np.asarray(getattr(space, "start", 0))
    return np.broadcast_to(start, space.shape).astype(space.dtype)


@dataclass(frozen=True, eq=False)
class FiniteGuard:
    """Nodes that replace non-finite inputs by zero and the action by a safe one."""

    sources: Mapping[str, str]
    """Key of an input -> the tensor with finite numbers only."""
    action: Array
    """The safe action."""

    @classmethod
    def add_to(
        cls, graph: GraphBuilder, actor: ActorNetwork, inputs: Mapping[str, str], action: Array
    ) -> FiniteGuard:
        """Add the checks of all inputs and the output :data:`OBS_OK`.

        Args:
            graph: Graph to extend.
            actor: The policy.
            inputs: Key of an input -> its name.
            action: The safe action.
        """
        sources, rows = {}, []
        for key, dtype in _float_inputs(actor).items():
            name, prefix = inputs[key], f"/guard/{key}"
            # Less is false for NaN. The largest finite number counts as infinite.
            limit = graph.constant(f"{prefix}/limit", np.finfo(dtype).max, dtype)
            size = graph.add("Abs", [name], f"{prefix}/size")
            finite = graph.add("Less", [size, limit], f"{prefix}/finite")
            flags = graph.cast(finite, np.float32, f"{prefix}/flags")
            zeros = _zeros(graph, flags, dtype, f"{prefix}/zeros")
            sources[key] = graph.add("Where", [finite, name, zeros], finite_input(key))
            flags = graph.add("Flatten", [flags], f"{prefix}/row", axis=1)
            rows.append(graph.reduce("ReduceMin", flags, 1, f"{prefix}/all", keep=True))
        every = graph.concat(rows, 1, "/guard/rows")
        graph.reduce("ReduceMin", every, 1, _ALL, keep=True)
        graph.cast(graph.reshape(_ALL, [-1], "/guard/flat"), np.bool_, OBS_OK)
        return cls(sources, action)

    def select(self, graph: GraphBuilder, action: str, space: Space, output: str) -> None:
        """Add a choice between the action and the safe action."""
        # Engines implement Where for int64, but few do for int8.
        dtype = np.dtype(np.int64) if space.dtype == np.int8 else space.dtype
        numbers = math.prod(space.shape)
        # Rows of numbers, since OpenCV 4 confuses (batch,) with (1, batch).
        action = graph.reshape(action, [-1, numbers], "/guard/action")
        if dtype != space.dtype:
            action = graph.cast(action, dtype, "/guard/wide_action")
        spread = graph.constant("/guard/spread", np.zeros(numbers))
        flags = graph.add("Add", [_ALL, spread], "/guard/flags")
        is_ok = graph.cast(flags, np.bool_, "/guard/is_ok")
        safe = graph.constant("/guard/safe_action", self.action.flatten(), dtype)
        zeros = _zeros(graph, flags, dtype, "/guard/zeros")
        safe = graph.add("Add", [zeros, safe], "/guard/safe_actions")
        chosen = graph.add("Where", [is_ok, action, safe], "/guard/chosen")
        if dtype != space.dtype:
            chosen = graph.cast(chosen, space.dtype, "/guard/narrow")
        graph.reshape(chosen, [-1, *space.shape], output)


def _zeros(graph: GraphBuilder, flags: str, dtype: npt.DTypeLike, output: str) -> str:
    """Zeros of the shape of finite numbers.

    Where gets operands of one shape, since OpenCV 4 broadcasts them wrongly.
    """
    if np.dtype(dtype) == np.float32:
        return graph.add("Sub", [flags, flags], output)
    zeros = graph.add("Sub", [flags, flags], f"{output}_float32")
    return graph.cast(zeros, dtype, output)


def _float_inputs(actor: ActorNetwork) -> dict[str, np.dtype[np.floating]]:
    tensors = [(each.name, each.space.dtype) for each in actor.inputs]
    tensors += [(state.input.name, np.dtype(state.input.dtype)) for state in actor.states]
    return {name: dtype for name, dtype in tensors if dtype.kind == "f"}
