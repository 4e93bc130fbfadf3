"""The plugin's side of the contract: how Godot RL Agents feeds a file and reads the actions.

It follows ``ONNXInference.cs``, ``ONNX_wrapper.gd`` and ``sync.gd`` of the plugin. It knows nothing
of the policy but what the agent's ``get_obs`` and ``get_action_space`` return. The engine is
onnxruntime, as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trpo_deploy.errors import ExportError
from trpo_deploy.export.targets.games.session import load_session, run_session
from trpo_deploy.spec.spaces import Array

CONTINUOUS, DISCRETE = "continuous", "discrete"


@dataclass(frozen=True)
class GodotAction:
    """An entry of the dictionary of ``get_action_space``."""

    size: int
    """Number of continuous actions, or of values of a discrete one."""
    action_type: str
    """``continuous`` or ``discrete``."""


class GodotModel:
    """A file in the plugin."""

    def __init__(self, content: bytes, action_space: Mapping[str, GodotAction]) -> None:
        """Load a file.

        Args:
            content: The ONNX file.
            action_space: The agent's actions, by key.

        Raises:
            ExportError: The plugin cannot run the file, or would read the wrong numbers.
        """
        self._session = load_session(content, "Godot")
        self._actions = action_space
        inputs = {each.name: each for each in self._session.get_inputs()}
        outputs = {each.name: each for each in self._session.get_outputs()}
        missing = [name for name in ("output", "state_outs") if name not in outputs]
        if missing or "state_ins" not in inputs:
            raise ExportError(
                "Godot's plugin would not take the file: it needs the input state_ins and the "
                f"outputs output and state_outs; the file has {[*inputs]} and {[*outputs]}"
            )
        wrong = [name for name, each in inputs.items() if each.type != "tensor(float)"]
        shape = outputs["output"].shape
        expected = sum(action.size for action in action_space.values())
        if wrong or len(shape) != 2 or shape[1] != expected:
            raise ExportError(
                "Godot's plugin would not take the file: it feeds float32 and reads "
                f"{expected} numbers from output (batch, {expected}); the file has output {shape}, "
                f"and of another type are {wrong}"
            )

    def act(self, observation: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        """The dictionary that the agent's ``set_action`` gets for that of its ``get_obs``.

        Raises:
            ExportError: onnxruntime refuses the observation.
        """
        return self._decode(self.output(observation))

    def output(self, observation: Mapping[str, Sequence[float]]) -> Array:
        """The numbers of ``output`` for the dictionary of ``get_obs``.

        Raises:
            ExportError: onnxruntime refuses the observation.
        """
        feeds = {"state_ins": np.array([1.0], np.float32)}
        for key, numbers in observation.items():
            feeds[key] = np.asarray(numbers, np.float32).reshape(1, -1)
        outputs = run_session(self._session, feeds, "Godot")
        return outputs["output"].reshape(-1)

    def _decode(self, numbers: Array) -> dict[str, Any]:
        """Read the numbers as ``_extract_action_dict`` does."""
        index = 0
        result: dict[str, Any] = {}
        for key, action in self._actions.items():
            part = numbers[index : index + action.size]
            index += action.size
            if action.action_type == CONTINUOUS:
                result[key] = np.clip(part, -1.0, 1.0)
            else:
                result[key] = _first_largest_above_zero(part)
        return result


def _first_largest_above_zero(logits: Array) -> int:
    """Index of the largest logit, as the plugin finds it: 0 if none is above 0."""
    largest, index = 0.0, 0
    for position, logit in enumerate(logits.tolist()):
        if logit > largest:
            largest, index = logit, position
    return index
