"""An ONNX file under the contract of the plugin Godot RL Agents.

Source: ``ONNXInference.cs`` and ``sync.gd`` of the plugin.
"""

from __future__ import annotations

import numpy as np

from trpo_deploy.errors import ExportError
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.targets.games.actions import (
    Branches,
    GameRange,
    add_continuous,
    add_logits,
    split,
)
from trpo_deploy.export.targets.games.observations import check_observations
from trpo_deploy.export.targets.games.wiring import OWN_PREFIX, PREFIX, Wiring
from trpo_deploy.export.targets.godot.agent import stack_axis, stack_of
from trpo_deploy.spec.policy_spec import PolicySpec, StateSpec, TensorSpec
from trpo_deploy.spec.spaces import BoxSpace

_NEWEST_OPSET = 19  # of onnxruntime 1.15.1, which the plugin asks for
_STATE_INPUT, _STATE_OUTPUT, _OUTPUT = "state_ins", "state_outs", "output"
_OWN_NAMES = (_STATE_INPUT, _STATE_OUTPUT, _OUTPUT)


def godot_file(file: ExportedFile) -> bytes:
    """The content of the ONNX file.

    Raises:
        ExportError: The contract cannot hold the policy.
    """
    spec = file.spec
    _check(spec)
    wiring = Wiring(file, "Godot", _NEWEST_OPSET)
    for index, tensor in enumerate(spec.inputs[: len(spec.observation_spaces)]):
        _add_observation(wiring, index, tensor, stack_of(spec, tensor.key))
    wiring.add_input(_STATE_INPUT)
    wiring.add_policy()
    if isinstance(spec.action_space, BoxSpace):
        add_continuous(wiring, _OUTPUT)
    else:
        _add_discrete_actions(wiring)
    wiring.graph.add("Identity", [_STATE_INPUT], _STATE_OUTPUT)
    wiring.add_output(_STATE_OUTPUT)
    return wiring.to_bytes()


def _check(spec: PolicySpec) -> None:
    check_observations(spec, "Godot")
    for key in spec.observation_spaces:
        if key in _OWN_NAMES or key.startswith((PREFIX, OWN_PREFIX)):
            raise ExportError(
                f"the file for Godot cannot have an input {key!r}: {', '.join(_OWN_NAMES)} and "
                f"names that begin with {PREFIX} or {OWN_PREFIX} are taken; train with another key"
            )
    space = spec.action_space
    if isinstance(space, BoxSpace) and not GameRange.of(space).bounded.all():
        raise ExportError(
            "the plugin of Godot limits actions to -1..1, and this policy's action has infinite "
            f"bounds ({space.describe()}); train with finite bounds"
        )


def _add_observation(
    wiring: Wiring, index: int, tensor: TensorSpec, stack: StateSpec | None
) -> None:
    """Add an observation; with stacked frames, of all frames with the oldest first."""
    size = int(np.prod(tensor.shape))
    if stack is None:
        wiring.feed(tensor, wiring.add_input(tensor.key, size))
        return
    earlier = int(np.prod(stack.input.shape))
    name = wiring.add_input(tensor.key, earlier + size)
    graph, prefix, frames = wiring.graph, f"{OWN_PREFIX}frames/{index}", []
    for start in range(0, earlier, size):
        frame = graph.slice(name, 1, start, start + size, f"{prefix}/{start}")
        frames.append(graph.reshape(frame, [-1, *tensor.shape], f"{frame}/shaped"))
    axis = stack_axis(tensor.shape, stack)
    wiring.feed(stack.input, graph.concat(frames, axis, f"{prefix}/earlier"))
    wiring.feed(tensor, graph.slice(name, 1, earlier, earlier + size, f"{prefix}/present"))


def _add_discrete_actions(wiring: Wiring) -> None:
    """Add logits whose largest is 1 in each branch.

    The plugin looks for a logit above 0 and takes the first value if it finds none. A constant
    added to all logits of a branch changes no probability.
    """
    graph, branches = wiring.graph, Branches.of(wiring.file.spec.action_space)
    one, shifted = graph.constant(f"{OWN_PREFIX}one", 1.0), []
    for index, logits in enumerate(split(wiring, add_logits(wiring), branches)):
        prefix = f"{OWN_PREFIX}action_{index}"
        largest = graph.reduce("ReduceMax", logits, 1, f"{prefix}/largest", keep=True)
        # In this order the difference is exact for logits near the largest.
        below = graph.add("Sub", [logits, largest], f"{prefix}/below")
        shifted.append(graph.add("Add", [below, one], f"{prefix}/shifted"))
    name = graph.concat(shifted, 1, f"{OWN_PREFIX}all_logits")
    graph.add("Identity", [name], _OUTPUT)
    wiring.add_output(_OUTPUT, branches.total)
