"""Witness: what the model's own environment was given, against what the file answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from trpo_deploy.spec.policy_spec import ACTION, OBS, Inputs, state_name
from trpo_deploy.spec.spaces import BoxSpace

NAME = "witness: the model's environment"
ROWS = 256
"""Observations that are compared."""
_SAME = 1e-4
"""Largest difference between actions that are equal but for rounding in SB3's float32."""
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

    def next_frames(inputs: Inputs) -> Inputs:
        outputs = engine.run(inputs)
        return {state.input.name: outputs[state.output] for state in spec.states}

    start = {state.input.name: state.zeros(len(steps[0].first)) for state in spec.states}
    observations = concatenate(_inputs(steps, start, next_frames))
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
    if not found.passed:
        found = replace(found, note=f"{found.note}; {_cause(steps, policy)}")
    return replace(found, name=NAME, how=_HOW)


def _cause(steps: Sequence[TappedStep], policy: TrainedPolicy) -> str:
    """The likely cause of a difference: rounding, if the policy as it was read does not differ."""
    reference = policy.reference

    def next_frames(inputs: Inputs) -> Inputs:
        return {state_name(name): each for name, each in reference.next_states(inputs).items()}

    start = {
        state_name(name): chain.first_state(len(steps[0].first))
        for name, chain in reference.chains.items()
        if chain.n_stack > 1
    }
    exact = reference.actions(concatenate(_inputs(steps, start, next_frames)))
    given = np.concatenate([step.actions for step in steps])
    if np.allclose(exact, given, rtol=_SAME, atol=_SAME):
        return (
            "likely because the environment gives float64 and the file takes float32; export with "
            "float64_input=True in ExportOptions (--float64-input)"
        )
    return (
        "likely because the model's environment has a wrapper that changes observations or actions "
        "and is not in the file, or one of its wrappers draws at random"
    )


def _inputs(
    steps: Sequence[TappedStep], start: Inputs, next_frames: Callable[[Inputs], Inputs]
) -> list[Inputs]:
    """The inputs at each step: the environment's observations, and earlier frames.

    Args:
        steps: What the environment gave.
        start: Earlier frames at the start of an episode, by the input's name.
        next_frames: From the inputs of a step to the earlier frames of the next one.
    """
    found: list[Inputs] = []
    frames = dict(start)
    for step in steps:
        own = step.observations if isinstance(step.observations, dict) else {OBS: step.observations}
        for name, array in frames.items():
            frames[name] = np.where(
                step.first.reshape(-1, *(1,) * (array.ndim - 1)), np.zeros((), array.dtype), array
            )
        found.append({**own, **frames})
        if start:
            frames = dict(next_frames(found[-1]))
    return found
