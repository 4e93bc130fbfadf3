"""A trained model for all tests of the command line."""

from __future__ import annotations

import pytest

from tests.command import run_cli
from trpo_deploy.files.model_dir import ModelDir


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelDir:
    """A model folder that ``trpo-deploy train`` wrote, exported and certified."""
    folder = ModelDir(tmp_path_factory.mktemp("models") / "cartpole")
    run = run_cli(
        *("train", "CartPole-v1", "-o", folder.root, "-n", 2048, "--eval-every", 1024),
        *("--eval-episodes", 3, "--seed", 3),
    )
    assert run.code == 0, run.error
    assert "certificate: the same policy" in run.output
    assert f"trpo-deploy serve {folder.root}" in run.output
    return folder
