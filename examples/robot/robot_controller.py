"""The controller of the simulated robot: numpy and onnxruntime, no simulator and no torch.

    python examples/robot/robot_controller.py policy.onnx [--port PORT] [--slower X]

It learns the driver's names and period from the robot's first message, and refuses a robot that is
not the policy's. At the end it prints what it counted as a line of JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import socket
import time
from contextlib import suppress

from link import (
    BYE,
    READY,
    is_observation,
    newest,
    pack_numbers,
    unpack_hello,
    unpack_observation,
)

from trpo_deploy.errors import TrpoDeployError
from trpo_deploy.runtime import Controller, ControllerStats, OnnxPolicy

TORQUE = 200  # N m at an action of 1: the unit in the file is "200 N m"


def control(policy: OnnxPolicy, link: socket.socket, slower: float) -> ControllerStats:
    """Control the robot that says hello, until it says bye."""
    message, robot = link.recvfrom(65536)
    hello = unpack_hello(message)
    period = hello.period
    controller = Controller(
        policy,
        observation_order=hello.sensors,
        action_order=hello.motors,
        period=period,
        max_age=2.5 * period,
        safe_action=0.0,
        clock=lambda: time.monotonic() / slower,  # the robot's clock
    )
    link.connect(robot)
    link.send(READY)
    with suppress(ConnectionRefusedError):  # the robot is gone
        answer_until_bye(controller, link, len(hello.sensors), 1.5 * slower * period)
    return controller.stats


def answer_until_bye(
    controller: Controller, link: socket.socket, sensors: int, patience: float
) -> None:
    """Answer each observation; act on the last one if none comes in time.

    Args:
        controller: The controller.
        link: Connected to the robot.
        sensors: Their number.
        patience: Seconds to wait for an observation. The last one may still be fresh enough.
    """
    stamp: float | None = None
    values: tuple[float, ...] = ()
    while (message := newest(link, patience)) != BYE:
        if message is not None and is_observation(message, sensors):
            stamp, values = unpack_observation(message)
        if values:
            link.send(pack_numbers(TORQUE * controller.act(values, stamp)))


def main() -> None:
    """Wait for a robot and control it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy")
    parser.add_argument("--port", type=int, default=5005)
    parser.add_argument("--slower", type=float, default=1.0, help="as the robot's")
    options = parser.parse_args()
    try:
        policy = OnnxPolicy(options.policy)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.bind(("127.0.0.1", options.port))
            stats = control(policy, link, options.slower)
    except (TrpoDeployError, ValueError, OSError) as error:
        raise SystemExit(f"robot_controller: {error}") from error
    print(json.dumps(dataclasses.asdict(stats)))


if __name__ == "__main__":
    main()
