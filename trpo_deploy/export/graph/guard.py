"""An optional guard against NaN and infinities, inside of the file.

Engines disagree on NaN: Clip keeps it or gives a bound, and ArgMax over it is anything. With a
guard, an observation that is not finite gives a stated action, and a flag that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trpo_deploy.errors import ExportError
from trpo_deploy.export.graph.builder import GraphBuilder
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.profiles import OBS_OK
from trpo_deploy.spec.policy_spec import GuardInfo
from trpo_deploy.spec.spaces import Array, BoxSpace, Space


def guard_info(actor: ActorNetwork) -> GuardInfo:
    """What the guard of a policy does.

    Raises:
        ExportError: no input can hold such numbers.
    """
    if not _real_inputs(actor):
        raise ExportError(
            "the policy takes whole numbers only, so there is nothing to guard; leave out --guard"
        )
    return GuardInfo(OBS_OK, safe_action(actor.action_space))


def safe_action(space: Space) -> Array:
    """Zero, or what the space has nearest to it; the first value of a discrete action."""
    if isinstance(space, BoxSpace):
        return np.clip(np.zeros(space.shape), space.low, space.high).astype(space.dtype)
    start = np.asarray(getattr(space, "start", 0))
    return np.broadcast_to(start, space.shape).astype(space.dtype)


@dataclass(frozen=True)
class Guard:
    """The inputs with all that is not finite replaced by zero, and whether there was any."""

    sources: Mapping[str, str]
    """The tensors to go on with, by the inputs' names."""

    @classmethod
    def add_to(cls, graph: GraphBuilder, actor: ActorNetwork) -> Guard:
        """Add the checks of all inputs and the output :data:`OBS_OK`."""
        sources, rows = {}, []
        for name, dtype in _real_inputs(actor).items():
            prefix = f"/guard/{name}"
            # Less is false for NaN. The largest number counts as infinite.
            limit = graph.constant(f"{prefix}/limit", np.finfo(dtype).max, dtype)
            size = graph.add("Abs", [name], f"{prefix}/size")
            finite = graph.add("Less", [size, limit], f"{prefix}/finite")
            zero = graph.constant(f"{prefix}/zero", 0.0, dtype)
            sources[name] = graph.add("Where", [finite, name, zero], f"{prefix}/clean")
            flags = graph.cast(finite, np.float32, f"{prefix}/flags")
            flags = graph.add("Flatten", [flags], f"{prefix}/row", axis=1)
            rows.append(graph.reduce("ReduceMin", flags, 1, f"{prefix}/all", keep=True))
        every = rows[0] if len(rows) == 1 else graph.add("Concat", rows, "/guard/rows", axis=1)
        every = graph.reduce("ReduceMin", every, 1, "/guard/all", keep=False)
        graph.cast(every, np.bool_, OBS_OK)
        return cls(sources)

    def choose(self, graph: GraphBuilder, action: str, space: Space, output: str) -> None:
        """Give the safe action where an observation was not finite."""
        ok = graph.reshape(OBS_OK, [-1, *(1 for _ in space.shape)], "/guard/ok")
        # Engines choose between int64, but few between int8.
        dtype = np.dtype(np.int64) if space.dtype == np.int8 else space.dtype
        if dtype != space.dtype:
            action = graph.cast(action, dtype, "/guard/wide_action")
        safe = graph.constant("/guard/safe_action", safe_action(space), dtype)
        chosen = output if dtype == space.dtype else "/guard/chosen"
        graph.add("Where", [ok, action, safe], chosen)
        if chosen != output:
            graph.cast(chosen, space.dtype, output)


def _real_inputs(actor: ActorNetwork) -> dict[str, np.dtype[np.floating]]:
    tensors = [(each.name, each.space.dtype) for each in actor.inputs]
    tensors += [(state.input.name, np.dtype(state.input.dtype)) for state in actor.states]
    return {name: dtype for name, dtype in tensors if dtype.kind == "f"}
