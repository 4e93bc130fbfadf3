"""Checks of a file by itself: its spec, its guard, and that a wrong copy is detected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from trpo_deploy.export.certify.batches import take
from trpo_deploy.export.certify.check import Check
from trpo_deploy.export.certify.engines import Engine, expose_parameters, load_onnxruntime
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.certify.parity import Comparison
from trpo_deploy.export.graph.distribution import PARAMETERS
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.policy.normalizer_info import normalizer_info
from trpo_deploy.export.policy.outputs import OBS_OK
from trpo_deploy.spec.policy_spec import ACTION, Inputs, NormalizerInfo, PolicySpec
from trpo_deploy.spec.spaces import Array, Json


def check_spec(file: ExportedFile, actor: ActorNetwork) -> Check:
    """Check that the file's metadata describe its graph and the policy's spaces."""
    spec, graph = file.spec, file.model.graph
    expected = {
        "observation_space": actor.observation_space.to_json(),
        "action_space": actor.action_space.to_json(),
        "states": [state.to_json() for state in actor.states],
        "squashed": actor.squash,
        "statistics": _statistics(normalizer_info(actor), spec.normalizer),
        "inputs": sorted(tensor.name for tensor in spec.inputs),
        "outputs": sorted(tensor.name for tensor in spec.outputs),
    }
    found = {
        "observation_space": spec.observation_space.to_json(),
        "action_space": spec.action_space.to_json(),
        "states": [state.to_json() for state in spec.states],
        "squashed": spec.squashed,
        "statistics": _statistics(spec.normalizer, spec.normalizer),
        "inputs": sorted(tensor.name for tensor in graph.input),
        "outputs": sorted(tensor.name for tensor in graph.output),
    }
    tensors = {name for node in graph.node for name in node.output}
    differing = {
        what: {"expected": expected[what], "found": found[what]}
        for what in expected
        if expected[what] != found[what]
    }
    problems = list(_differences(spec, actor, differing))
    if PARAMETERS not in tensors:
        problems.append(f"the graph has no tensor {PARAMETERS}")
    return Check(
        "spec",
        not problems,
        "the metadata have the policy's spaces, and the graph has the inputs and outputs that the "
        "metadata name and the last layer",
        differing,
        note="; ".join(problems),
    )


def _statistics(info: NormalizerInfo | None, told: NormalizerInfo | None) -> Json:
    """The means and deviations of a normaliser, of the keys whose a spec tells."""
    if info is None or told is None:
        return {}
    value = info.to_json()
    return {
        name: {key: value.get(name, {}).get(key) for key in arrays}
        for name, arrays in (("mean", told.mean), ("std", told.std))
    }


def _differences(
    spec: PolicySpec, actor: ActorNetwork, differing: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """How the metadata differ from the policy, in words.

    Other spaces explain all that differs; statistics are too many numbers for a sentence.
    """
    spaces = {
        "observation_space": (spec.observation_space, actor.observation_space),
        "action_space": (spec.action_space, actor.action_space),
    }
    other_spaces = differing.keys() & spaces
    for what, pair in differing.items():
        if what in spaces:
            found, expected = (each.describe() for each in spaces[what])
            yield f"the file's {what.replace('_', ' ')} is {found}, the policy's {expected}"
        elif not other_spaces and what == "statistics":
            yield "the file's normalisation statistics are not the policy's"
        elif not other_spaces:
            yield f"the file's {what} is {pair['found']}, the policy's {pair['expected']}"


def check_guard(engine: Engine, spec: PolicySpec, ordinary: Inputs) -> Check:
    """Check that NaN and infinities in each input give the safe action."""
    assert spec.guard is not None
    wrong = []
    rows = take(ordinary, slice(4))
    if not engine.run(rows)[OBS_OK].all():
        wrong.append("an ordinary observation is refused")
    for tensor in spec.inputs:
        if not tensor.dtype.startswith("float"):
            continue
        bad = {name: array.copy() for name, array in rows.items()}
        for row, value in enumerate((np.nan, np.inf, -np.inf)):
            bad[tensor.key] = bad[tensor.key].astype(tensor.dtype)
            bad[tensor.key].reshape(4, -1)[row, -1] = value
        found = engine.run(bad)
        if found[OBS_OK].tolist() != [False, False, False, True]:
            wrong.append(f"{tensor.name}: {OBS_OK} is {found[OBS_OK].tolist()}")
        if not np.array_equal(found[ACTION][:3], np.stack([spec.guard.action] * 3)):
            wrong.append(f"{tensor.name}: the action is not the safe action")
    return Check(
        f"guard, {engine.name}",
        not wrong,
        "NaN and both infinities in each input give the safe action and obs_ok = false",
        {"wrong": wrong},
        note="; ".join(wrong),
    )


def check_negative_control(file: ExportedFile, comparisons: Sequence[Comparison]) -> Check:
    """Check that parity fails for a copy whose last layer is one percent off."""
    wrong = onnx.ModelProto()
    wrong.CopyFrom(file.model)
    head = next(n for n in wrong.graph.node if n.output[0] == PARAMETERS)
    for tensor in wrong.graph.initializer:
        if tensor.name in head.input:
            scaled: Array = numpy_helper.to_array(tensor) * np.float32(1.01)
            tensor.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), tensor.name))
    engine = load_onnxruntime(expose_parameters(wrong).SerializeToString(), file.spec.inputs)
    found = [each.name for each in comparisons if not each.check(engine).passed]
    return Check(
        "negative control",
        bool(found),
        "a copy whose last layer is scaled by 1.01 must fail the parity check",
        {"detected_on": found},
        note="" if found else "parity passes for a copy that is one percent off",
    )
