"""RL Zoo's installed package trains with this TRPO, and all its TRPO presets are read."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import sb3_contrib
import yaml

from trpo_deploy import TRPO
from trpo_deploy.train.config.load import load_config

# As in the documentation, for all commands in one process: RL Zoo takes seconds to import.
CLIENT = """
import sys
import rl_zoo3
from trpo_deploy import TRPO

rl_zoo3.ALGOS["trpo"] = TRPO
from rl_zoo3.enjoy import enjoy
from rl_zoo3.train import train

for env_id in sys.argv[1:]:
    flags = ["--algo", "trpo", "--env", env_id, "-f", "logs", "--verbose", "1"]
    sys.argv[1:] = [*flags, "-n", "2500", "--eval-freq", "2000", "--eval-episodes", "1"]
    train()
    sys.argv[1:] = [*flags, "-n", "500", "--no-render"]
    print("enjoy", env_id)
    enjoy()
    print("done", env_id)
"""
ENV_IDS = ("CartPole-v1", "Pendulum-v1", "Acrobot-v1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """RL Zoo's logs of training and playing with this project's class, and what it printed."""
    folder = tmp_path_factory.mktemp("rl-zoo")
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, *ENV_IDS],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # RL Zoo lets torch use all cores
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder / "logs", done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_rl_zoo_trains_and_plays(env_id: str, trained: tuple[Path, str]) -> None:
    """Discrete actions, gSDE, and a normaliser, each with RL Zoo's hyperparameters."""
    logs, output = trained
    train, _, enjoy = output.partition(f"done {env_id}\n")[0].rpartition(f"enjoy {env_id}\n")
    train = train.rpartition("\ndone ")[2]
    assert "surrogate_gain" in train  # sb3-contrib's class does not have it
    assert "Mean reward" in enjoy
    folder = logs / "trpo" / f"{env_id}_1"
    for name in (f"{env_id}.zip", "best_model.zip"):
        for algorithm in (TRPO, sb3_contrib.TRPO):
            assert algorithm.load(folder / name, device="cpu").num_timesteps >= 2000


def test_every_preset_of_rl_zoo_is_read() -> None:
    # Found without an import, which replaces gymnasium's TimeLimit for this whole process.
    found = find_spec("rl_zoo3")
    assert found is not None
    path = Path(str(found.origin)).parent / "hyperparams" / "trpo.yml"
    presets = yaml.safe_load(path.read_text())
    assert len(presets) > 20
    for env_id, preset in presets.items():
        config = load_config(env_id, preset=str(path))
        config.algorithm_arguments()
        assert config.n_timesteps == preset["n_timesteps"]
        assert config.n_envs == preset.get("n_envs", 1)
