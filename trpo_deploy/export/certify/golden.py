"""Observations with the file's actions, for users who run the file elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import numpy_helper

from trpo_deploy.export.certify.batches import size_of, take
from trpo_deploy.export.certify.engines import Engine, load_onnxruntime
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.certify.ordinary import ordinary_observations
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.spec.policy_spec import ACTION, OBS, Inputs, PolicySpec
from trpo_deploy.spec.spaces import DictSpace, Json

_ROWS = 4
_MAX_NUMBERS = 4096  # numbers of one observation; larger observations do not belong in JSON


def golden_sample(spec: PolicySpec, engine: Engine, observations: Inputs) -> Json | None:
    """A few observations and the file's actions, for the certificate.

    Args:
        spec: Spec of the file.
        engine: The file.
        observations: Ordinary observations; frame stacks start with zeros.

    Returns:
        ``{"observation": ..., "action": ...}`` with a batch axis, or ``None`` if the observations
        are too large.
    """
    rows = take({name: observations[name] for name in spec.observation_spaces}, slice(_ROWS))
    numbers = sum(array[0].size for array in rows.values())
    if numbers > _MAX_NUMBERS:
        return None
    rows = {each: rows[each].astype(space.dtype) for each, space in spec.observation_spaces.items()}
    start = {state.input.name: state.zeros(size_of(rows)) for state in spec.states}
    action = engine.run({**rows, **start})[ACTION]
    lists = {name: array.tolist() for name, array in rows.items()}
    return {
        "observation": lists if isinstance(spec.observation_space, DictSpace) else lists[OBS],
        "action": action.tolist(),
    }


def backend_test(folder: Path, file: ExportedFile, actor: ActorNetwork) -> dict[Path, bytes]:
    """Golden vectors as files in the layout of ONNX's backend tests.

    The files are ``folder/model.onnx`` and, for batches of 1 and 7, in
    ``folder/test_data_set_N/``, ``input_0.pb`` ... and ``output_0.pb`` ... in the order of the
    graph's inputs and outputs.

    Args:
        folder: Folder of the files.
        file: The ONNX file.
        actor: The policy, which gives the size of ordinary observations.
    """
    engine = load_onnxruntime(file.content, file.spec.inputs)
    observations = ordinary_observations(actor, np.random.default_rng(0), 8)
    files = {folder / "model.onnx": file.content}
    for index, rows in enumerate((slice(0, 1), slice(1, 8))):
        batch = take(observations, rows)
        outputs = engine.run(batch)
        data = folder / f"test_data_set_{index}"
        for number, each in enumerate(file.spec.inputs):
            tensor = numpy_helper.from_array(batch[each.key].astype(each.dtype), each.name)
            files[data / f"input_{number}.pb"] = tensor.SerializeToString()
        for number, each in enumerate(file.spec.outputs):
            tensor = numpy_helper.from_array(outputs[each.name], each.name)
            files[data / f"output_{number}.pb"] = tensor.SerializeToString()
    return files
