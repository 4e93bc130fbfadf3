"""ML-Agents' side of the contract: how Unity checks a file, feeds it and reads the actions.

It follows ``SentisModelInfo.cs``, ``SentisModelParamLoader.cs``, ``GeneratorImpl.cs`` and
``ApplierImpl.cs`` of ML-Agents, and knows nothing of the policy but the agent's behavior. The
engine is onnxruntime instead of Unity's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort

from trpo_deploy.errors import ExportError
from trpo_deploy.export.targets.games.session import load_session, run_session
from trpo_deploy.export.targets.unity.behavior import API_VERSION, Behavior
from trpo_deploy.spec.spaces import Array

_ACTIONS = {
    kind: (f"{kind}_actions", f"deterministic_{kind}_actions")
    for kind in ("continuous", "discrete")
}
_SHAPES = {kind: f"{kind}_action_output_shape" for kind in _ACTIONS}
_FIXED_INPUTS = ("action_masks", "recurrent_in")


@dataclass(frozen=True, eq=False)
class Decision:
    """What agents receive."""

    continuous: Array
    """float32, ``(batch, numbers)``."""
    discrete: Array
    """Counted from 0: int64, ``(batch, branches)``."""
    memory: Array
    """For the next step: float32, ``(batch, 1, memory)``."""


class UnityAgents:
    """Agents with one behavior and one model."""

    def __init__(self, content: bytes, behavior: Behavior, *, deterministic: bool = True) -> None:
        """Load and check a model.

        Args:
            content: The ONNX file.
            behavior: Sensors and actions of the scene.
            deterministic: The setting "Deterministic Inference".

        Raises:
            ExportError: Unity would refuse the file or warn about it.
        """
        self._session = load_session(content, "Unity")
        self._behavior = behavior
        self._which = int(deterministic)
        self._memory = 0
        problems = [*_file_problems(content), *self._problems()]
        if problems:
            raise ExportError(f"Unity would not take the file: {'; '.join(problems)}")

    @property
    def memory_size(self) -> int:
        """Numbers that the agents keep between steps."""
        return self._memory

    def decide(
        self, observations: Mapping[str, Array], memory: Array, masks: Array | None = None
    ) -> Decision:
        """One step of all agents.

        Args:
            observations: What each sensor wrote, by its key.
            memory: ``(batch, 1, memory)``; zeros at the start of an episode.
            masks: ``(batch, total)``, 1 for an allowed value; all are allowed by default.
        """
        behavior, rows = self._behavior, len(memory)
        feeds = {
            f"obs_{index}": observations[sensor.key]
            for index, sensor in enumerate(behavior.sensors)
        }
        if behavior.branches:
            total = sum(behavior.branches)
            feeds["action_masks"] = np.ones((rows, total), np.float32) if masks is None else masks
        if self.memory_size:
            feeds["recurrent_in"] = memory
        found = self._run(feeds)
        empty = np.zeros((rows, 0), np.float32)
        return Decision(
            found.get(_ACTIONS["continuous"][self._which], empty),
            found.get(_ACTIONS["discrete"][self._which], empty.astype(np.int64)),
            found.get("recurrent_out", memory),
        )

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        return run_session(self._session, feeds, "Unity")

    def _problems(self) -> Iterator[str]:
        inputs = {each.name: each for each in self._session.get_inputs()}
        wrong = [name for name, each in inputs.items() if each.type != "tensor(float)"]
        if wrong:
            yield f"it feeds float32, and the inputs {wrong} have another type"
            return
        zeros = {name: np.zeros(_known_shape(each), np.float32) for name, each in inputs.items()}
        outputs = self._run(zeros)
        for name in ("version_number", "memory_size"):
            if name not in outputs:
                yield f"the output {name} is missing"
                return
            if outputs[name].dtype != np.float32 or outputs[name].shape != (1,):
                yield f"the output {name} is not one float32 number"
                return
        if outputs["version_number"][0] != API_VERSION:
            yield f"version_number is {outputs['version_number'][0]:g}, expected {API_VERSION}"
        self._memory = max(0, int(outputs["memory_size"][0]))
        yield from self._input_problems(inputs)
        yield from self._memory_problems(inputs, outputs)
        yield from self._action_problems(inputs, outputs)

    def _input_problems(self, inputs: Mapping[str, ort.NodeArg]) -> Iterator[str]:
        sensors = {f"obs_{index}": sensor for index, sensor in enumerate(self._behavior.sensors)}
        for name, sensor in sensors.items():
            if name not in inputs:
                yield f"the input {name} of the sensor {sensor.key!r} is missing"
            elif tuple(inputs[name].shape[1:]) != sensor.shape:
                came = tuple(inputs[name].shape[1:])
                yield f"the input {name} has the shape {came}, and the sensor {sensor.shape}"
        for name in inputs:
            if name not in sensors and name not in _FIXED_INPUTS:
                yield f"the input {name} is unexpected"

    def _memory_problems(
        self, inputs: Mapping[str, ort.NodeArg], outputs: Mapping[str, Array]
    ) -> Iterator[str]:
        if not self._memory:
            return
        if "recurrent_in" not in inputs or "recurrent_out" not in outputs:
            yield "memory_size is positive, and recurrent_in or recurrent_out is missing"
            return
        shapes = inputs["recurrent_in"].shape[1:], list(outputs["recurrent_out"].shape[1:])
        if shapes != ([1, self._memory],) * 2:
            yield f"recurrent_in or recurrent_out has another size than memory_size, {self._memory}"

    def _action_problems(
        self, inputs: Mapping[str, ort.NodeArg], outputs: Mapping[str, Array]
    ) -> Iterator[str]:
        behavior = self._behavior
        if not any(name in outputs for names in _ACTIONS.values() for name in names):
            yield "it has no output with actions"
            return
        expected = {
            "continuous": [behavior.continuous] if behavior.continuous else [],
            "discrete": list(behavior.branches),
        }
        for kind, sizes in expected.items():
            found = outputs.get(_SHAPES[kind], np.zeros(0)).reshape(-1).tolist()
            if found != sizes:
                yield f"{_SHAPES[kind]} is {found}, and the behavior has {sizes}"
            for name in _ACTIONS[kind] if sizes else ():
                numbers = sizes[0] if kind == "continuous" else len(sizes)
                if name not in outputs:
                    yield f"the output {name} is missing"
                elif outputs[name].shape != (1, numbers):
                    yield f"the output {name} has the shape {outputs[name].shape}"
        if not behavior.branches:
            return
        total = sum(behavior.branches)
        if "action_masks" not in inputs:
            yield "it has discrete actions, and the input action_masks is missing"
        elif inputs["action_masks"].shape[1:] != [total]:
            yield f"the input action_masks has not {total} columns"


def _known_shape(each: ort.NodeArg) -> list[int]:
    """The shape with which Unity tries a model: unknown dimensions are 1."""
    return [size if isinstance(size, int) else 1 for size in each.shape]


def _file_problems(content: bytes) -> Iterator[str]:
    model = onnx.load_model_from_string(content)
    opset = next((each.version for each in model.opset_import if not each.domain), 0)
    if not 7 <= opset <= 15:
        yield f"it reads opsets 7 to 15, and the file has {opset}"
