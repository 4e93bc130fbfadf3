"""The functions of the target ``godot``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trpo_deploy.export.certify.batches import size_of
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.targets.games.actions import Branches, GameRange, action_rounding
from trpo_deploy.export.targets.games.folder import read_model
from trpo_deploy.export.targets.godot.agent import action_space, observe
from trpo_deploy.export.targets.godot.consumer import GodotModel
from trpo_deploy.export.targets.godot.file import godot_file
from trpo_deploy.export.targets.godot.readme import readme_text
from trpo_deploy.export.targets.target import FinishedPolicy
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
        f"{name}.onnx": godot_file(policy.file),
        "README.md": readme_text(policy.file.spec, name),
    }


def load(folder: Path, name: str, spec: PolicySpec) -> Engine:
    """The file as the plugin would feed and read it, row by row.

    Args:
        folder: Folder with the files.
        name: Name of the policy in the files.
        spec: The policy's spec.

    Raises:
        ExportError: The file breaks the contract.
    """
    model = GodotModel(read_model(folder, name), action_space(spec))

    def run(batch: Inputs) -> dict[str, Array]:
        observed = observe(spec, batch)
        rows = range(size_of(batch))
        actions = [model.act({key: each[row] for key, each in observed.items()}) for row in rows]
        return {ACTION: _environment_actions(spec, actions)}

    # The game keeps the earlier frames itself.
    return Engine(
        "godot contract",
        None,
        run,
        is_slow=False,
        outputs=frozenset({ACTION}),
        action_rounding=action_rounding(spec.action_space),
    )


def _environment_actions(spec: PolicySpec, actions: Sequence[Mapping[str, Any]]) -> Array:
    """The environment's actions for those of the game, as a game would compute them."""
    space = spec.action_space
    numbers = np.array([np.hstack([*each.values()]) for each in actions])
    if isinstance(space, BoxSpace):
        numbers = GameRange.of(space).to_environment(numbers)
    else:
        numbers = numbers + Branches.of(space).starts
    return numbers.astype(space.dtype).reshape(len(actions), *space.shape)
