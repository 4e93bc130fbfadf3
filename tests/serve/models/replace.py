"""Replace a policy file while it is served."""

from __future__ import annotations

import os
from pathlib import Path

from tests.runtime.policy_files import write_policy
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.spaces import DictSpace, Space


def replace_policy(
    path: Path,
    seed: int,
    observation_space: Space | DictSpace | None = None,
    action_space: Space | None = None,
) -> str:
    """Write a policy to a temporary name and rename it, as an export does.

    Returns:
        Its version.
    """
    new = write_policy(path.with_name("new.tmp"), observation_space, action_space, seed=seed)
    version = OnnxPolicy(new).sha256[:12]
    os.replace(new, path)
    return version
