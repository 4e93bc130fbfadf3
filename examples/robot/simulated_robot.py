"""A robot in a process of its own: Hopper-v5 in MuJoCo, behind a driver that speaks UDP.

    python examples/robot/simulated_robot.py [--controller 127.0.0.1:5005] [--steps N] [--slower X]
        [--fault KIND:START:STEPS]...

It has its own clock and does not wait: each period it sends an observation, and applies the newest
torques that have arrived, or the last ones again. It sends sensors and takes torques in the order
of its driver, which is not the policy's. At the end it prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

import gymnasium
import numpy as np
from faults import Fault, FaultyNetwork
from link import BYE, READY, Hello, newest, pack_hello, receive, unpack_numbers

SENSORS = (
    "rootz.position",
    "rooty.position",
    "thigh_joint.position",
    "leg_joint.position",
    "foot_joint.position",
    "rootx.velocity",
    "rootz.velocity",
    "rooty.velocity",
    "thigh_joint.velocity",
    "leg_joint.velocity",
    "foot_joint.velocity",
)
"""In the order of the simulator."""
MOTORS = ("thigh_joint", "leg_joint", "foot_joint")
DRIVER_SENSORS = tuple(sorted(SENSORS))
DRIVER_MOTORS = tuple(sorted(MOTORS))
TORQUE = 200  # N m at a control of 1
LOWEST = 0.7  # m; below, the robot has fallen
WATCHDOG = 0.1  # s without torques, after which the driver gives none


class Robot:
    """The robot's body."""

    def __init__(self, seed: int) -> None:
        self._env = gymnasium.make("Hopper-v5", terminate_when_unhealthy=False)
        self._observation, _ = self._env.reset(seed=seed)
        self.period = float(self._env.unwrapped.dt)  # type: ignore[attr-defined]
        self.total_reward = 0.0

    def read(self) -> list[float]:
        """The sensors in the driver's order."""
        return [float(self._observation[SENSORS.index(name)]) for name in DRIVER_SENSORS]

    def move(self, torques: Sequence[float]) -> None:
        """One period with these torques, in the driver's order."""
        by_name = dict(zip(DRIVER_MOTORS, torques, strict=True))
        action = np.array([by_name[name] / TORQUE for name in MOTORS], np.float32)
        self._observation, reward, *_ = self._env.step(action)
        self.total_reward += float(reward)

    @property
    def has_fallen(self) -> bool:
        """Whether it lies on the ground."""
        return bool(self._observation[0] < LOWEST)


def run(
    robot: Robot, link: socket.socket, steps: int, slower: float, faults: Sequence[Fault]
) -> dict[str, object]:
    """Move for some steps and tell how it went."""
    network, torques = FaultyNetwork(faults), (0.0,) * len(MOTORS)
    missed, silence, largest = 0, 0.0, 0.0
    due = time.monotonic()
    for step in range(steps):
        # The robot's seconds are longer than real ones where it runs slower.
        for message in network.send(step, due / slower, robot.read()):
            send(link, message)
        due += slower * robot.period
        answer = newest_torques(link, due - time.monotonic())
        if answer is not None:
            torques, silence = answer, 0.0
        else:
            missed, silence = missed + 1, silence + robot.period
            if silence > WATCHDOG:
                torques = (0.0,) * len(MOTORS)
        robot.move(torques)
        largest = max(map(abs, torques))
        time.sleep(max(0.0, due - time.monotonic()))
    send(link, BYE)
    return {
        "return": robot.total_reward,
        "fallen": robot.has_fallen,
        "missed": missed,
        "last_torque": largest,
    }


def send(link: socket.socket, message: bytes) -> None:
    """Send a message, whether or not the controller is still there."""
    with suppress(ConnectionRefusedError):
        link.send(message)


def newest_torques(link: socket.socket, seconds: float) -> tuple[float, ...] | None:
    """The last torques that have arrived; ``None`` if none have, or the controller is gone."""
    try:
        message = newest(link, seconds)
    except ConnectionRefusedError:
        return None
    if message is None or len(message) != 8 * len(MOTORS):
        return None
    return unpack_numbers(message)


def address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``."""
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, received {text!r}")
    return host, int(port)


def fault(text: str) -> Fault:
    """Read ``KIND:START:STEPS``."""
    try:
        return Fault.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected KIND:START:STEPS: {error}") from error


def connect(controller: tuple[str, int], robot: Robot) -> socket.socket:
    """Send hello until the controller answers."""
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.connect(controller)
    hello = pack_hello(Hello(robot.period, DRIVER_SENSORS, DRIVER_MOTORS))
    while not is_answered(link, hello):
        time.sleep(0.2)
    return link


def is_answered(link: socket.socket, hello: bytes) -> bool:
    """Whether the controller is there."""
    try:
        link.send(hello)
        return receive(link, 1.0) == READY
    except ConnectionRefusedError:  # it has not begun to listen
        return False


def main() -> None:
    """Run the robot and print its result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--controller", type=address, default=("127.0.0.1", 5005), metavar="HOST:PORT"
    )
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slower", type=float, default=1.0, help="than real time")
    parser.add_argument("--fault", type=fault, action="append", default=[])
    options = parser.parse_args()
    robot = Robot(options.seed)
    with connect(options.controller, robot) as link:
        result = run(robot, link, options.steps, options.slower, options.fault)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
