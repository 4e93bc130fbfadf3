"""The simulated robot hops with the controller in Python and in C, also with faults of its sensors.

Short faults do not fell it; in long ones it gets no torque.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import pytest

from tests.export.targets.c.folders import SANITIZERS, WARNINGS, compiler, run
from trpo_deploy import OnnxPolicy
from trpo_deploy.export import TargetOptions, export_file, export_policy
from trpo_deploy.files.runs import find_run

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "robot"
STEPS = 180
JOINTS = ("rootz", "rooty", "thigh_joint", "leg_joint", "foot_joint")
SLOWER = 4.0
"""Than real time: a period is 32 ms, so that other work on the machine does not matter."""


Process: TypeAlias = "subprocess.Popen[str]"


class Result(NamedTuple):
    robot: dict[str, Any]
    controller: dict[str, Any]


class Program(NamedTuple):
    """A controller as a program, with its words before the port and before ``SLOWER``."""

    words: tuple[object, ...]
    before_slower: tuple[str, ...]

    def command(self, port: int) -> list[str]:
        return [str(each) for each in (*self.words, port, *self.before_slower, SLOWER)]


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hopper") / "policy.onnx"
    export_policy(find_run(ROOT / "models" / "Hopper-v5"), path, verify=False)
    return path


@pytest.fixture(scope="module", params=["python", "c"])
def program(request: pytest.FixtureRequest, policy: Path) -> Program:
    if request.param == "c":
        return Program((compiled(policy),), ())
    script = EXAMPLE / "robot_controller.py"
    return Program((sys.executable, script, policy, "--port"), ("--slower",))


def compiled(policy: Path) -> Path:
    """The controller in C, by the line of docs/robots.md, without warnings."""
    (line,) = re.findall(r"^gcc .*$", (ROOT / "docs" / "robots.md").read_text(), re.MULTILINE)
    _, *words = shlex.split(line)
    folder = policy.parent
    export_file(policy, TargetOptions("c", folder / "hopper" / "c", "hopper_v5"), verify=False)
    (folder / "examples").symlink_to(ROOT / "examples")
    run([compiler("gcc"), *words, *WARNINGS, *SANITIZERS], cwd=folder)
    return folder / "hopper" / "robot_controller"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def play(program: Program, *faults: str, steps: int = STEPS) -> Result:
    """Run the robot and its controller, each in a process."""
    port = free_port()
    robot = [sys.executable, EXAMPLE / "simulated_robot.py", "--controller", f"127.0.0.1:{port}"]
    robot += ["--slower", SLOWER, "--steps", steps]
    for fault in faults:
        robot += ["--fault", fault]
    processes = [
        subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for command in (program.command(port), robot)
    ]
    try:
        result = processes[1].communicate(timeout=120)[0]
        counted = processes[0].communicate(timeout=60)[0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return Result(json.loads(result), json.loads(counted))


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
    program: Program, undisturbed: float
) -> None:
    robot, controller = play(program)
    assert controller["calls"] >= STEPS - robot["missed"]
    faults = sum(controller["faults"].values())
    if robot["missed"] == faults == 0 and controller["calls"] == STEPS:
        # The actions differ by rounding, if at all.
        assert robot["return"] == pytest.approx(undisturbed, rel=1e-6)
    else:  # a busy machine: some actions were repeated, by the robot or by the controller
        assert robot["return"] == pytest.approx(undisturbed, rel=0.05)
    assert not robot["fallen"]


@pytest.mark.slow
def test_short_faults_do_not_fell_the_robot(program: Program, undisturbed: float) -> None:
    kinds = ["nan:60:2", "lost:80:2", "late:100:2", "doubled:120:5", "frozen:140:4"]
    robot, controller = play(program, *kinds)
    assert not robot["fallen"]
    assert robot["return"] == pytest.approx(undisturbed, rel=0.1)
    assert controller["faults"]["not_finite"] >= 2
    assert controller["faults"]["stale"] >= 2  # frozen for longer than max_age
    causes = {cause for cause, count in controller["faults"].items() if count}
    assert causes <= {"not_finite", "stale", "late"}  # late: on a busy machine


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nan", "lost", "frozen"])
def test_in_a_long_fault_the_robot_gets_no_torque(program: Program, kind: str) -> None:
    robot, controller = play(program, f"{kind}:20:1000", steps=80)
    assert robot["last_torque"] == 0
    assert controller["faults"]["not_finite" if kind == "nan" else "stale"] >= 30


def test_without_its_controller_the_robot_gets_no_torque() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as controller:
        controller.bind(("127.0.0.1", 0))
        controller.settimeout(60)
        address = "{}:{}".format(*controller.getsockname())
        options = ["--controller", address, "--steps", "40"]
        robot = subprocess.Popen(
            [sys.executable, EXAMPLE / "simulated_robot.py", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        _, sender = controller.recvfrom(4096)
        controller.sendto(b"ready", sender)
        controller.recv(4096)
        controller.sendto(struct.pack("<3d", 50, 50, 50), sender)
    output, error = robot.communicate(timeout=60)  # the socket is closed, as after a crash
    assert robot.returncode == 0, error
    assert json.loads(output)["last_torque"] == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--controller", "127.0.0.1:x"], "expected HOST:PORT"),
        (["--controller", "127.0.0.1:5", "--fault", "odd:1:2"], "lost, late.* received 'odd:1:2'"),
    ],
)
def test_the_robot_says_what_it_expects(options: list[str], expected: str) -> None:
    command = [sys.executable, str(EXAMPLE / "simulated_robot.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert re.search(expected, done.stderr), done.stderr


def hello(period: str = "0.008", last_motor: str = "foot_joint") -> bytes:
    """The first message of a robot with the policy's own order."""
    velocities = [f"{each}.velocity" for each in ("rootx", *JOINTS)]
    sensors = [f"{each}.position" for each in JOINTS] + velocities
    motors = ["thigh_joint", "leg_joint", last_motor]
    return "\n".join([period, "\t".join(sensors), "\t".join(motors)]).encode()


@contextmanager
def started(program: Program, first: bytes) -> Iterator[tuple[Process, socket.socket]]:
    """A controller that has received a first message, and a socket connected to it."""
    port = free_port()
    controller = subprocess.Popen(
        program.command(port), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as robot:
            robot.connect(("127.0.0.1", port))
            while not is_received(robot, first):
                assert controller.poll() is None
            yield controller, robot
    finally:
        controller.kill()
        controller.communicate()


def is_received(robot: socket.socket, message: bytes) -> bool:
    """Whether somebody listened when a message was sent; an answer stays in the socket."""
    robot.settimeout(0.1)
    robot.send(message)
    try:
        robot.recv(1, socket.MSG_PEEK)
    except ConnectionRefusedError:
        time.sleep(0.1)
        return False
    except TimeoutError:  # no answer yet
        pass
    robot.settimeout(60)
    return True


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (hello(last_motor="x"), r"unknown: 'x'|thigh_joint, leg_joint, x$"),
        (hello(last_motor="foot_joint\tx"), r"unknown: 'x'|leg_joint, foot_joint, x$"),
        (hello(last_motor="leg_joint"), r"doubled: 'leg_joint'|thigh_joint, leg_joint, leg_joint$"),
        (hello(period="0.02"), r"0\.02 s.* 0\.008 s"),
        (hello(period="nan"), r"period.* nan"),
        (b"x", r"expected a hello of three lines"),
        (b"", r"expected a hello of three lines"),
    ],
)
def test_a_robot_that_is_not_the_policys_is_refused(
    program: Program, first: bytes, expected: str
) -> None:
    with started(program, first) as (controller, _):
        output, error = controller.communicate(timeout=60)
    assert (controller.returncode, output) == (1, "")
    assert re.fullmatch(r"robot_controller: .*\n", error), error
    assert re.search(expected, error, re.MULTILINE), error


def test_messages_of_another_size_are_ignored(program: Program) -> None:
    with started(program, hello()) as (controller, robot):
        assert robot.recv(64) == b"ready"
        for other in (hello(), b"", b"x" * 50, struct.pack("<11d", *[0.0] * 11)):
            robot.send(other)
        robot.settimeout(0.3)
        with pytest.raises(TimeoutError):
            robot.recv(64)
        robot.settimeout(60)
        robot.send(struct.pack("<12d", time.monotonic() / SLOWER, 1.25, *[0.0] * 10))
        assert len(robot.recv(64)) == 3 * 8
        robot.send(b"bye")
        output, error = controller.communicate(timeout=60)
    assert controller.returncode == 0, error
    assert json.loads(output)["calls"] >= 1
