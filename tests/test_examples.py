"""The examples, and the README's, run as written."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from tests.command import run_cli, run_process

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cartpole(agents: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported CartPole policy, in the folder that the README names."""
    onnx = tmp_path_factory.mktemp("readme") / "models" / "CartPole-v1" / "policy.onnx"
    onnx.parent.mkdir(parents=True)
    exported = run_cli("export", agents / "CartPole-v1_1", "-o", onnx, "--no-verify")
    assert exported.code == 0, exported.error
    return onnx


def test_the_control_loop_plays_an_episode(cartpole: Path) -> None:
    script = ROOT / "examples" / "control_loop.py"
    run = run_process(cartpole, command=(sys.executable, script))
    assert run.output == "CartPole-v1: return 500.0\n", run.error


def test_the_action_of_the_readme_is_ready_for_step(
    cartpole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (example,) = (block for block in blocks if "OnnxPolicy" in block)
    monkeypatch.chdir(cartpole.parents[2])
    with gymnasium.make("CartPole-v1") as env:
        observation, _ = env.reset(seed=0)
        names: dict[str, object] = {"observation": observation}
        exec(example, names)
        _, reward, *_ = env.step(np.asarray(names["action"]))
    assert reward == 1.0


@pytest.mark.parametrize("script", ["unity/CartPoleAgent.cs", "godot/cart_pole.gd"])
def test_the_carts_of_the_games_have_gymnasiums_constants(script: str) -> None:
    text = (ROOT / "examples" / script).read_text()
    found = re.findall(r"const (?:float )?(\w+) :?= ([\d.]+)", text)
    constants = {name.lower().replace("_", ""): float(value) for name, value in found}
    env = CartPoleEnv()
    expected = {
        "gravity": env.gravity,
        "masscart": env.masscart,
        "masspole": env.masspole,
        "halflength": env.length,
        "force": env.force_mag,
        "step": env.tau,
    }
    assert expected.items() <= constants.items()
    assert str(env.x_threshold) in text
    assert f"{np.rad2deg(env.theta_threshold_radians):g}" in text
