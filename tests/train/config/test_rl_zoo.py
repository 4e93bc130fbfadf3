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

# As in the documentation, for both commands.
CLIENT = """
import sys
import rl_zoo3
from trpo_deploy import TRPO

rl_zoo3.ALGOS["trpo"] = TRPO
from rl_zoo3.{command} import {command}

{command}()
"""


def rl_zoo(command: str, *arguments: object, cwd: Path) -> str:
    """Run a command of RL Zoo with this project's class for ``trpo``."""
    code = CLIENT.format(command=command)
    done = subprocess.run(
        [sys.executable, "-c", code, "--algo", "trpo", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # RL Zoo lets torch use all cores
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1"])
def test_rl_zoo_trains_and_plays(env_id: str, tmp_path: Path) -> None:
    """Discrete actions, gSDE, and a normaliser, each with RL Zoo's hyperparameters."""
    flags = ("--env", env_id, "-f", "logs", "--verbose", "1")
    log = rl_zoo(
        "train", *flags, "-n", 2500, "--eval-freq", 2000, "--eval-episodes", 1, cwd=tmp_path
    )
    assert "surrogate_gain" in log  # sb3-contrib's class does not have it
    folder = tmp_path / "logs" / "trpo" / f"{env_id}_1"
    for name in (f"{env_id}.zip", "best_model.zip"):
        for algorithm in (TRPO, sb3_contrib.TRPO):
            assert algorithm.load(folder / name, device="cpu").num_timesteps >= 2000
    assert "Mean reward" in rl_zoo("enjoy", *flags, "-n", 500, "--no-render", cwd=tmp_path)


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
