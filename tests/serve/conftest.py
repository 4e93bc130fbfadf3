from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.policy_files import ACTION_SPACES, IMAGE, OBSERVATION_SPACES, box, write_policy
from tests.serve.server import Server, running
from tests.shared import shared_folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: one of each observation and action space, some with frame stacks.

    ``tests.serve.model_names`` has their names.
    """
    return shared_folder(tmp_path_factory, "models", write_models)


def write_models(root: Path) -> None:
    for name, space in OBSERVATION_SPACES.items():
        write_policy(root / name / "policy.onnx", space)
    for name, action in ACTION_SPACES.items():
        write_policy(root / f"act-{name}" / "policy.onnx", action_space=action)
        path = root / f"sampled-{name}" / "policy.onnx"
        write_policy(path, action_space=action, distribution=True)
    write_policy(root / "stacked-image" / "policy.onnx", IMAGE, frames=3)
    write_policy(root / "stacked-box" / "policy.onnx", box(2), frames=2)


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[Server]:
    """One server with all models, for the tests that do not change it."""
    with running(models, grpc_port=0) as server:
        yield server
