"""The simulated robot walks with the controller, and short faults of its sensors do not fell it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import pytest

from trpo_deploy import OnnxPolicy
from trpo_deploy.export import export_policy
from trpo_deploy.files.runs import find_run

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "robot"
STEPS = 250
SLOWER = 4.0
"""Than real time: a period is 32 ms, so that other work on the machine does not matter."""


class Result(NamedTuple):
    robot: dict[str, Any]
    controller: dict[str, Any]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hopper") / "policy.onnx"
    export_policy(find_run(ROOT / "models" / "Hopper-v5"), path, verify=False)
    return path


def play(policy: Path, *faults: str) -> Result:
    """Run the robot and its controller, each in a process."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    slower = ["--slower", str(SLOWER)]
    commands = [
        [EXAMPLE / "robot_controller.py", policy, "--port", port, *slower],
        [EXAMPLE / "simulated_robot.py", "--controller", f"127.0.0.1:{port}", *slower],
    ]
    commands[1] += ["--steps", STEPS]
    for fault in faults:
        commands[1] += ["--fault", fault]
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for command in commands
    ]
    try:
        robot = processes[1].communicate(timeout=120)[0]
        controller = processes[0].communicate(timeout=60)[0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return Result(json.loads(robot), json.loads(controller))


@pytest.fixture(scope="module")
def undisturbed(policy: Path) -> float:
    """The return of the policy in its environment."""
    loaded, total = OnnxPolicy(policy), 0.0
    with gymnasium.make("Hopper-v5") as env:
        observation, _ = env.reset(seed=0)
        for _ in range(STEPS):
            observation, reward, *_ = env.step(loaded.predict(observation)[0])
            total += float(reward)
    return total


@pytest.mark.slow
def test_without_faults_the_return_is_that_of_the_environment(
    policy: Path, undisturbed: float
) -> None:
    robot, controller = play(policy)
    assert controller["calls"] >= STEPS - robot["missed"]
    faults = sum(controller["faults"].values())
    if robot["missed"] == faults == 0:
        assert robot["return"] == pytest.approx(undisturbed, rel=1e-6)
    else:  # a busy machine: some actions were repeated
        assert robot["return"] == pytest.approx(undisturbed, rel=0.05)
    assert not robot["fallen"]


@pytest.mark.slow
def test_short_faults_do_not_fell_the_robot(policy: Path, undisturbed: float) -> None:
    kinds = ["nan:60:2", "lost:90:2", "late:120:2", "doubled:150:5", "frozen:180:4"]
    robot, controller = play(policy, *kinds)
    assert not robot["fallen"]
    assert robot["return"] == pytest.approx(undisturbed, rel=0.1)
    assert controller["faults"]["not_finite"] >= 2
    assert controller["faults"]["stale"] >= 2  # frozen for longer than max_age
    assert controller["faults"]["malformed"] == controller["faults"]["policy"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nan", "lost", "frozen"])
def test_in_a_long_fault_the_robot_gets_no_torque(policy: Path, kind: str) -> None:
    robot, controller = play(policy, f"{kind}:150:1000")
    assert robot["last_torque"] == 0
    assert controller["faults"]["not_finite" if kind == "nan" else "stale"] >= 50


def test_a_robot_that_is_not_the_policys_is_refused(policy: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(EXAMPLE, tmp_path / "robot")
    script = copied / "simulated_robot.py"
    script.write_text(script.read_text().replace('"leg_joint", "foot_joint")', '"leg_joint", "x")'))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    controller = subprocess.Popen(
        [sys.executable, EXAMPLE / "robot_controller.py", policy, "--port", port],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    robot = subprocess.Popen([sys.executable, script, "--controller", f"127.0.0.1:{port}"])
    try:
        error = controller.communicate(timeout=60)[1]
    finally:
        for process in (controller, robot):
            process.kill()
            process.wait()
    assert controller.returncode == 1
    assert "missing: 'foot_joint'; unknown: 'x'" in error
