"""Witness: what the model's own environment was given, against what the file answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trpo_deploy.errors import EnvError
from trpo_deploy.export.certify.batches import concatenate
from trpo_deploy.export.certify.check import Check
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.certify.parity import Comparison
from trpo_deploy.export.certify.trained_policy import TrainedPolicy
from trpo_deploy.sb3.model_in_memory import ModelInMemory, TappedStep
from trpo_deploy.spec.policy_spec import ACTION, OBS, Inputs, PolicySpec
from trpo_deploy.spec.spaces import BoxSpace

NAME = "witness: the model's environment"
ROWS = 256
"""Observations that are compared."""
_HOW = (
    "model.predict plays in a copy of the model's environment, with all its wrappers. The file "
    "gets what the innermost environment gave; its action must be what that environment was given. "
    "The tolerance is that of parity"
)


def check_model_environment(
    model: ModelInMemory, file: ExportedFile, engine: Engine, policy: TrainedPolicy, seed: int
) -> Check:
    """Compare a file with all that lies between the model's environment and its policy.

    Args:
        model: The model with its environment.
        file: The ONNX file.
        engine: The file in an engine.
        policy: The policy as it was read, which gives the tolerance.
        seed: Seed of the environments and of the noise that sets the tolerance.

    Returns:
        The check; undecided if the environment cannot be copied or fails.
    """
    spec = file.spec
    try:
        steps = model.play(ROWS, seed)
    except EnvError as error:
        return Check(NAME, None, _HOW, {"rows": 0}, note=f"no witness: {error}")
    observations = concatenate(_inputs(steps, spec, engine))
    given = np.concatenate([step.actions for step in steps])
    rng = np.random.default_rng(seed)
    compared = Comparison.make(NAME, observations, file, policy, rng)
    if compared.undefined_rows:
        note = "no witness: the policy's action is not finite for observations of its environment"
        return Check(NAME, None, _HOW, {"rows": len(given)}, note=note)
    # The model acts on observations as they are. The file takes float32: by so much SB3's own
    # action changes.
    exact = policy.reference.actions(observations)
    if isinstance(spec.action_space, BoxSpace):
        change = np.abs(exact - compared.actions).reshape(len(given), -1).max(axis=1)
        action = compared.expected[ACTION]
        action = replace(
            action, values=given.reshape(len(given), -1), tolerance=action.tolerance + change
        )
        compared = replace(compared, expected={**compared.expected, ACTION: action})
    else:
        given = np.where(exact == compared.actions, given, compared.actions)
    found = replace(compared, actions=given).check(engine)
    return replace(found, name=NAME, how=_HOW)


def _inputs(steps: Sequence[TappedStep], spec: PolicySpec, engine: Engine) -> list[Inputs]:
    """The file's inputs at each step; earlier frames are the file's own outputs."""
    found: list[Inputs] = []
    frames = {state.input.name: state.zeros(len(steps[0].first)) for state in spec.states}
    for step in steps:
        own = step.observations if isinstance(step.observations, dict) else {OBS: step.observations}
        for name, array in frames.items():
            frames[name] = np.where(
                step.first.reshape(-1, *(1,) * (array.ndim - 1)), np.zeros((), array.dtype), array
            )
        found.append({**own, **frames})
        if spec.states:
            outputs = engine.run(found[-1])
            frames = {state.input.name: outputs[state.output] for state in spec.states}
    return found
