"""The functions of the target ``unity``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trpo_deploy.export.certify.batches import size_of
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.targets.games.actions import Branches, GameRange, action_rounding
from trpo_deploy.export.targets.games.folder import read_model
from trpo_deploy.export.targets.target import FinishedPolicy
from trpo_deploy.export.targets.unity.behavior import Behavior
from trpo_deploy.export.targets.unity.consumer import Decision, UnityAgents
from trpo_deploy.export.targets.unity.file import unity_file
from trpo_deploy.export.targets.unity.readme import readme_text
from trpo_deploy.spec.policy_spec import ACTION, Inputs, PolicySpec
from trpo_deploy.spec.spaces import Array, BoxSpace


def write(policy: FinishedPolicy, name: str) -> dict[str, bytes | str]:
    """The files ``NAME.onnx`` and ``README.md``.

    Args:
        policy: The policy.
        name: Name of the file.

    Raises:
        ExportError: The contract cannot hold the policy.
    """
    return {
        f"{name}.onnx": unity_file(policy.file),
        "README.md": readme_text(policy.file.spec, name),
    }


def load(folder: Path, name: str, spec: PolicySpec) -> Engine:
    """The file as ML-Agents would check, feed and read it.

    Args:
        folder: Folder with the files.
        name: Name of the policy in the files.
        spec: The policy's spec.

    Raises:
        ExportError: The file breaks the contract.
    """
    behavior = Behavior.of(spec)
    agents = UnityAgents(read_model(folder, name), behavior)

    def run(batch: Inputs) -> dict[str, Array]:
        written = {each.key: each.write(batch[each.key]) for each in behavior.sensors}
        return _outputs(spec, agents.decide(written, _memory(spec, batch)))

    states = (state.output for state in spec.states)
    return Engine(
        "unity contract",
        None,
        run,
        is_slow=False,
        outputs=frozenset({ACTION, *states}),
        action_rounding=action_rounding(spec.action_space),
    )


def _memory(spec: PolicySpec, batch: Inputs) -> Array:
    """The earlier frames as Unity keeps them, ``(batch, 1, memory)``."""
    rows = size_of(batch)
    frames = [batch[state.input.key].reshape(rows, -1) for state in spec.states]
    flat = np.concatenate([np.zeros((rows, 0), np.float32), *frames], axis=1)
    return flat.astype(np.float32)[:, np.newaxis]


def _outputs(spec: PolicySpec, decision: Decision) -> dict[str, Array]:
    """The environment's action and the next frames, as a game would compute them."""
    space, rows, end = spec.action_space, len(decision.memory), 0
    if isinstance(space, BoxSpace):
        action = GameRange.of(space).to_environment(decision.continuous)
    else:
        action = decision.discrete + Branches.of(space).starts
    outputs = {ACTION: action.astype(space.dtype).reshape(rows, *space.shape)}
    for state in spec.states:
        start, end = end, end + int(np.prod(state.input.shape))
        frames = decision.memory[:, 0, start:end].astype(state.input.dtype)
        outputs[state.output] = frames.reshape(rows, *state.input.shape)
    return outputs
