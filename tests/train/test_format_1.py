"""A run of version 0.1.0 loads, predicts and resumes: ``tests/fixtures/format-1``."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from trpo_deploy import TRPO
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.sb3.squashed import SquashedMlpPolicy
from trpo_deploy.train import load_config, settings_to_resume, train

RUN = Path(__file__).parents[1] / "fixtures" / "format-1"


@pytest.mark.parametrize(
    "path", [RUN / "policy.zip", RUN / "best" / "policy.zip"], ids=["last", "best"]
)
def test_a_zip_that_names_its_policy_class_by_an_old_module_loads_and_predicts(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        assert b"trpo_deploy.policies" in file.read("data")
    model = TRPO.load(path, device="cpu")
    assert isinstance(model.policy, SquashedMlpPolicy)
    assert model.num_timesteps == 1024
    assert set(model.return_moments) == {"mean", "var", "count"}
    observations = np.random.default_rng(0).normal(size=(5, 6))  # two stacked frames of three
    actions, _ = model.predict(observations.astype(np.float32), deterministic=True)
    assert actions.shape == (5, 1)
    assert np.isfinite(actions).all()
    assert np.abs(actions).max() <= 2  # Pendulum's bounds


def test_a_run_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    folder = ModelDir(tmp_path / "run")
    with np.load(folder.evaluations) as file:
        earlier = {name: file[name] for name in file.files}
    assert earlier["timesteps"][-1] == 1024
    preset = settings_to_resume(folder)
    assert preset is not None
    config = load_config("Pendulum-v1", preset=preset, n_timesteps=1536)
    result = train(config, folder, resume=True)
    assert result.timesteps == 1536
    with np.load(folder.evaluations) as file:
        n = len(earlier["timesteps"])
        assert file["timesteps"].tolist() == [*earlier["timesteps"].tolist(), 1536]
        np.testing.assert_array_equal(file["results"][:n], earlier["results"])
    assert TRPO.load(folder.policy_zip, device="cpu").num_timesteps == 1536
