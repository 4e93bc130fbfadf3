"""A control loop on an exported policy.

    python examples/control_loop.py [runs/CartPole-v1/policy.onnx]

The policy needs numpy and onnxruntime only. Gymnasium stands in for the robot: read your sensors in
place of ``reset`` and ``step``, and send the action to your actuators in place of ``step``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium

from trpo_deploy import OnnxPolicy
from trpo_deploy.errors import TrpoDeployError

CARTPOLE = Path(__file__).parent / "browser" / "policy.onnx"


def play(policy: OnnxPolicy, robot: gymnasium.Env[object, object]) -> float:
    """Play one episode; returns the sum of its rewards."""
    observation, _ = robot.reset(seed=0)
    total, over, state = 0.0, False, None
    while not over:
        action, state = policy.predict(observation, state)
        observation, reward, terminated, truncated, _ = robot.step(action)
        total += float(reward)
        over = terminated or truncated
    return total


def main() -> None:
    """Run one episode and print its return."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", nargs="?", default=CARTPOLE, help="default: CartPole's")
    try:
        policy = OnnxPolicy(parser.parse_args().policy)
        robot = gymnasium.make(str(policy.spec.env_id))
    except (TrpoDeployError, gymnasium.error.Error) as error:
        raise SystemExit(f"control_loop: {error}") from error
    print(f"{policy.spec.env_id}: return {play(policy, robot):.1f}")


if __name__ == "__main__":
    main()
