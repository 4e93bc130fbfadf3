"""The example of behaviour cloning imitates a dataset, and its policy starts a training."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.command import Run, run_cli, run_process

if sys.version_info < (3, 11):
    pytest.skip("Minari needs Python 3.11", allow_module_level=True)

SCRIPT = Path(__file__).parents[1] / "examples" / "behaviour_cloning.py"
NAME = "cartpole/expert-v0"


def expert(observation: Any) -> np.int64:
    """An action that keeps the pole up."""
    return np.int64(observation @ [0.05, 0.1, 1.0, 0.3] > 0)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of the expert's episodes."""
    minari = pytest.importorskip("minari")
    folder = tmp_path_factory.mktemp("datasets")
    env = gymnasium.make("CartPole-v1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        minari.create_dataset_from_buffers(
            NAME,
            [played(env, seed) for seed in range(10)],
            env=env,
            eval_env=env,
            description="An expert keeps the pole up.",
            algorithm_name="expert",
            author="tests",
            author_email="tests@example.org",
            code_permalink="https://example.org",
        )
    return folder


def played(env: gymnasium.Env[Any, Any], seed: int) -> Any:
    """An episode of 100 steps, as Minari takes it."""
    from minari.data_collector import EpisodeBuffer

    observations, actions = [env.reset(seed=seed)[0]], []
    for _ in range(100):
        actions.append(expert(observations[-1]))
        observations.append(env.step(actions[-1])[0])
    return EpisodeBuffer(
        id=seed,
        observations=np.array(observations),
        actions=np.array(actions),
        rewards=[1.0] * 100,
        terminations=[False] * 100,
        truncations=[False] * 99 + [True],
    )


def cloned(datasets: Path, *arguments: object) -> Run:
    return run_process(
        *arguments, command=(sys.executable, SCRIPT), env={"MINARI_DATASETS_PATH": str(datasets)}
    )


@pytest.mark.slow
def test_the_cloned_policy_balances_and_starts_a_training(datasets: Path, tmp_path: Path) -> None:
    run = cloned(datasets, NAME, "-o", tmp_path / "cloned", "--passes", 40)
    assert run.code == 0, run.error
    training = run_cli(
        *("train", "CartPole-v1", "-o", tmp_path / "run", "-n", 1024, "--no-export"),
        *("--init", tmp_path / "cloned", "--set", "normalize=true", "--eval-episodes", 5),
    )
    assert training.code == 0, training.error
    evaluations = np.load(tmp_path / "run" / "evaluations.npz")
    assert evaluations["timesteps"][0] == 0
    # A new policy reaches 10 or 20 here, the expert 500.
    assert evaluations["results"][0].mean() > 200


def test_a_missing_dataset_is_one_clear_line(datasets: Path, tmp_path: Path) -> None:
    run = cloned(datasets, "no/data-v0", "-o", tmp_path / "cloned")
    assert run.code == 1
    assert re.fullmatch(r"behaviour_cloning: .*no/data-v0.*minari download no/data-v0\n", run.error)
    assert not (tmp_path / "cloned").exists()
