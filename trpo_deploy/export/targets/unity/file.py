"""An ONNX file under the contract of ML-Agents: ``com.unity.ai.inference``, API version 3.

Source: ``TensorNames.cs`` and ``SentisModelParamLoader.cs`` of ML-Agents' package, and
``model_serialization.py`` of its trainers.
"""

from __future__ import annotations

import numpy as np
from onnx import helper

from trpo_deploy.errors import ExportError
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.targets.games.actions import Branches, add_continuous, add_logits, split
from trpo_deploy.export.targets.games.observations import check_observations
from trpo_deploy.export.targets.games.wiring import OWN_PREFIX, PREFIX, Wiring
from trpo_deploy.export.targets.unity.behavior import API_VERSION, Sensor
from trpo_deploy.spec.policy_spec import TensorSpec
from trpo_deploy.spec.spaces import BoxSpace

_NEWEST_OPSET = 15
_PENALTY = 1e30  # added to the logit of a forbidden action: its probability becomes 0


def unity_file(file: ExportedFile) -> bytes:
    """The content of the ONNX file.

    Raises:
        ExportError: The contract cannot hold the policy.
    """
    check_observations(file.spec, "Unity")
    _check_pooling(file)
    wiring = Wiring(file, "Unity", _NEWEST_OPSET)
    spaces = file.spec.observation_spaces
    for index, tensor in enumerate(file.spec.inputs[: len(spaces)]):
        _add_observation(wiring, index, tensor, Sensor(tensor.key, spaces[tensor.key]))
    memory = _add_memory(wiring)
    wiring.add_policy()
    wiring.add_constant_output("version_number", [API_VERSION], 1)
    wiring.add_constant_output("memory_size", [memory], 1)
    _add_next_memory(wiring, memory)
    if isinstance(file.spec.action_space, BoxSpace):
        _add_continuous_actions(wiring)
    else:
        _add_discrete_actions(wiring)
    return wiring.to_bytes()


def _check_pooling(file: ExportedFile) -> None:
    """Refuse mean pooling of a form that Unity's importer reads as another one."""
    for node in file.model.graph.node:
        if node.op_type == "AveragePool":
            found = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            counts_padding = found.get("count_include_pad") and any(found.get("pads", ()))
            if counts_padding or found.get("ceil_mode"):
                raise ExportError(
                    "Unity ignores ceil_mode and count_include_pad of AveragePool, which a "
                    "features extractor of this policy uses; train with "
                    "count_include_pad=False and ceil_mode=False"
                )


def _add_observation(wiring: Wiring, index: int, tensor: TensorSpec, sensor: Sensor) -> None:
    graph, prefix = wiring.graph, f"{OWN_PREFIX}obs_{index}"
    name = wiring.add_input(f"obs_{index}", *sensor.shape)
    if sensor.is_visual and sensor.is_channels_last:
        name = graph.add("Transpose", [name], f"{prefix}/channels_last", perm=[0, 2, 3, 1])
    if sensor.scale != 1:
        scale = graph.constant(f"{prefix}/scale", sensor.scale)
        half = graph.constant(f"{prefix}/half", 0.5)
        name = graph.add("Mul", [name, scale], f"{prefix}/scaled")
        name = graph.add("Add", [name, half], f"{prefix}/to_round")  # the cast rounds down
    wiring.feed(tensor, name)


def _add_memory(wiring: Wiring) -> int:
    """Add the earlier frames as a recurrent memory; return its size, 0 without frames.

    ML-Agents starts each episode with zeros, as a stack of frames does.
    """
    states = [state.input for state in wiring.file.spec.states]
    sizes = [int(np.prod(state.shape)) for state in states]
    total, end = sum(sizes), 0
    if not states:
        return 0
    name = wiring.add_input("recurrent_in", 1, total)
    flat = wiring.graph.reshape(name, [-1, total], f"{OWN_PREFIX}memory")
    for index, (state, size) in enumerate(zip(states, sizes, strict=True)):
        end += size
        part = wiring.graph.slice(flat, 1, end - size, end, f"{OWN_PREFIX}memory/{index}")
        wiring.feed(state, part)
    return total


def _add_next_memory(wiring: Wiring, memory: int) -> None:
    if not memory:
        return
    graph, parts = wiring.graph, []
    for index, state in enumerate(wiring.file.spec.states):
        prefix = f"{OWN_PREFIX}memory/next/{index}"
        part = graph.cast(PREFIX + state.output, np.float32, f"{prefix}/float")
        parts.append(graph.add("Flatten", [part], f"{prefix}/flat", axis=1))
    flat = graph.concat(parts, 1, f"{OWN_PREFIX}memory/all")
    graph.reshape(flat, [-1, 1, memory], "recurrent_out")
    wiring.add_output("recurrent_out", 1, memory)


def _add_continuous_actions(wiring: Wiring) -> None:
    numbers = add_continuous(wiring, "continuous_actions")
    name = "deterministic_continuous_actions"
    wiring.graph.add("Identity", ["continuous_actions"], name)
    wiring.add_output(name, numbers)
    wiring.add_constant_output("continuous_action_output_shape", [numbers], 1)


def _add_discrete_actions(wiring: Wiring) -> None:
    graph, branches = wiring.graph, Branches.of(wiring.file.spec.action_space)
    masks = wiring.add_input("action_masks", branches.total)
    one = graph.constant(f"{OWN_PREFIX}one", 1.0)
    penalty = graph.constant(f"{OWN_PREFIX}penalty", _PENALTY)
    forbidden = graph.add("Sub", [masks, one], f"{OWN_PREFIX}forbidden")
    penalties = graph.add("Mul", [forbidden, penalty], f"{OWN_PREFIX}penalties")
    logits = graph.add("Add", [add_logits(wiring), penalties], f"{OWN_PREFIX}masked_logits")
    chosen = []
    for index, part in enumerate(split(wiring, logits, branches)):
        # ArgMax of probabilities, as in Stable-Baselines3.
        prefix = f"{OWN_PREFIX}action_{index}"
        probabilities = graph.add("Softmax", [part], f"{prefix}/probabilities", axis=1)
        chosen.append(graph.add("ArgMax", [probabilities], f"{prefix}/index", axis=1, keepdims=1))
    name = graph.concat(chosen, 1, f"{OWN_PREFIX}actions")
    for output in ("discrete_actions", "deterministic_discrete_actions"):
        graph.add("Identity", [name], output)
        wiring.add_output(output, len(branches.sizes), dtype=np.int64)
    sizes = [float(size) for size in branches.sizes]
    wiring.add_constant_output("discrete_action_output_shape", sizes, 1, len(sizes))
