"""Golden rows: observations of one episode and the file's actions, to check a target with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trpo_deploy.errors import ObservationError
from trpo_deploy.export.certify.batches import size_of, take
from trpo_deploy.export.certify.engines import load_onnxruntime
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.spec.policy_spec import ACTION, Inputs, PolicySpec
from trpo_deploy.spec.spaces import Array, DictSpace, Json

ROWS = 12
_MAX_NUMBERS = 2**16  # numbers in all rows: large images get fewer rows
_ABOUT = (
    "One episode: row after row through the policy, with earlier frames that start with zeros. "
    "The actions are onnxruntime's."
)


@dataclass(frozen=True, eq=False)
class Golden:
    """Observations of one episode in order, and the action for each."""

    observations: Inputs
    """By key, ``(rows, *shape)``."""
    actions: Array
    """``(rows, *shape)``."""

    def to_json(self, spec: PolicySpec) -> str:
        """The rows as JSON text: ``{"about", "observations", "actions"}``, a list of each."""
        rows = [_row_json(take(self.observations, [row]), spec) for row in range(len(self.actions))]
        value = {"about": _ABOUT, "observations": rows, "actions": self.actions.tolist()}
        return json.dumps(value, allow_nan=False)


def _row_json(row: Inputs, spec: PolicySpec) -> Any:
    lists = {key: array[0].tolist() for key, array in row.items()}
    return lists if isinstance(spec.observation_space, DictSpace) else next(iter(lists.values()))


def golden_rows(file: ExportedFile, observations: Inputs) -> Golden:
    """Run rows as one episode in onnxruntime.

    Args:
        file: The ONNX file.
        observations: Rows by key; earlier frames are left out. At most :data:`ROWS` are used.

    Raises:
        PolicyFileError: onnxruntime cannot run the file.
    """
    spec = file.spec
    spaces = spec.observation_spaces
    numbers = sum(int(np.prod(space.shape)) for space in spaces.values())
    rows = min(ROWS, size_of(observations), max(2, _MAX_NUMBERS // max(1, numbers)))
    with np.errstate(over="ignore"):
        kept = {key: observations[key][:rows].astype(spaces[key].dtype) for key in spaces}
    engine = load_onnxruntime(file.content, spec.inputs)
    frames = {state.input.name: state.zeros(1) for state in spec.states}
    actions = []
    for row in range(rows):
        outputs = engine.run({**take(kept, [row]), **frames})
        actions.append(outputs[ACTION])
        frames = {state.input.name: outputs[state.output] for state in spec.states}
    return Golden(kept, np.concatenate(actions))


def rows_of_certificate(spec: PolicySpec, certificate: Mapping[str, Any] | None) -> Inputs:
    """Observations for :func:`golden_rows` without the trained policy.

    The certificate's golden observations have the size of the training's. Legal ones of the spaces
    follow them.

    Args:
        spec: Spec of the file.
        certificate: The file's certificate, if there is one.
    """
    rng = np.random.default_rng(0)
    rows = list(_golden_observations(spec, certificate))
    rows += [spec.validate(spec.sample_observation(rng))[0] for _ in range(ROWS)]
    return {key: np.concatenate([row[key] for row in rows]) for key in spec.observation_spaces}


def _golden_observations(
    spec: PolicySpec, certificate: Mapping[str, Any] | None
) -> Iterable[dict[str, Array]]:
    golden: Json | None = (certificate or {}).get("golden")
    if golden is not None:
        try:
            yield spec.validate(golden["observation"])[0]
        except (ObservationError, KeyError, TypeError):  # a certificate that was edited
            return
