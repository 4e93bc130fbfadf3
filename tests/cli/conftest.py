"""A trained model for all tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import run_cli
from tests.shared import shared_folder
from trpo_deploy.files.model_dir import ModelDir


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelDir:
    """A model folder that ``trpo-deploy train`` wrote, exported and certified."""

    def train(folder: Path) -> None:
        run = run_cli(
            *("train", "CartPole-v1", "-o", folder, "-n", 2048, "--eval-every", 1024),
            *("--eval-episodes", 3, "--seed", 3),
        )
        assert run.code == 0, run.error
        assert "certificate: the same policy" in run.output
        assert f"trpo-deploy serve {folder}" in run.output

    return ModelDir(shared_folder(tmp_path_factory, "cartpole", train))
