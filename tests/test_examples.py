"""The examples in Python run as they say, and each mistake of their user is one line.

The pages run further ones: ``docs``. Robots and JavaScript have tests of their own.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from tests.command import Run, run_process

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(
    path.relative_to(EXAMPLES).as_posix()
    for path in EXAMPLES.rglob("*.py")
    if "__main__" in path.read_text()
)


def run(script: str, *arguments: object) -> Run:
    return run_process(*arguments, command=(sys.executable, EXAMPLES / script))


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_example_helps_and_shows_its_own_command(script: str) -> None:
    helped = run(script, "--help")
    assert helped.code == 0, helped.error
    usage = re.search(rf"^    python examples/{script} .*$", (EXAMPLES / script).read_text(), re.M)
    assert usage is not None
    for option in re.findall(r"--[\w-]+", usage[0]):
        assert option in helped.output


@pytest.mark.parametrize("policy", [(), (EXAMPLES / "browser" / "policy.onnx",)])
def test_the_control_loop_plays_an_episode(policy: tuple[Path, ...]) -> None:
    played = run("control_loop.py", *policy)
    assert played.output == "CartPole-v1: return 500.0\n", played.error


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("control_loop.py", ("no.onnx",), r"control_loop: cannot read no\.onnx"),
        ("http_client.py", ("--url", "http://127.0.0.1:1"), "no service at .* trpo-deploy serve"),
        ("http_client.py", ("[1,",), "observation: not JSON"),
        ("robot/robot_controller.py", (), "required: policy"),
        ("robot/simulated_robot.py", ("--controller", "robot"), "expected HOST:PORT, received"),
        ("robot/simulated_robot.py", ("--fault", "nan"), "expected KIND:START:STEPS"),
    ],
)
def test_a_mistake_is_one_clear_line(script: str, arguments: tuple[str, ...], says: str) -> None:
    failed = run(script, *arguments)
    assert failed.code != 0
    assert "Traceback" not in failed.error
    assert re.search(says, failed.error.splitlines()[-1]), failed.error


@pytest.mark.parametrize("script", ["unity/CartPoleAgent.cs", "godot/cart_pole.gd"])
def test_the_carts_of_the_games_have_gymnasiums_constants(script: str) -> None:
    text = (EXAMPLES / script).read_text()
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
