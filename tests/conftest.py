"""What all tests share: one torch thread, the agents of 2021, and how a missing tool is met."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

AGENTS = Path(os.environ.get("TRPO_DEPLOY_AGENTS", Path(__file__).parents[2] / "shared" / "agents"))


def missing(what: str) -> None:
    """Skip on a developer's machine; fail in CI, where nothing may be missing."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and CI must have it")
    pytest.skip(f"needs {what}")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    try:
        import torch
    except ImportError:  # the tests of the runtime run without it
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def agents() -> Path:
    """RL Zoo's trained agents, in a folder beside the checkout or in $TRPO_DEPLOY_AGENTS."""
    if not AGENTS.is_dir():
        missing("RL Zoo's trained agents (set TRPO_DEPLOY_AGENTS)")
    return AGENTS
