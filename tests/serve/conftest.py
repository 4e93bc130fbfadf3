from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.policy_files import ACTION_SPACES, OBSERVATION_SPACES, write_policy
from tests.serve.server import Server, running


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: one of each observation and each action space."""
    root = tmp_path_factory.mktemp("models")
    for name, space in OBSERVATION_SPACES.items():
        write_policy(root / name / "policy.onnx", space)
    for name, action in ACTION_SPACES.items():
        write_policy(root / f"act-{name}" / "policy.onnx", action_space=action)
    return root


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[Server]:
    """One server with all models, for the tests that leave it as it is."""
    with running(models) as server:
        yield server
