"""A control loop on an exported policy: numpy and onnxruntime, no torch.

    python examples/control_loop.py runs/CartPole-v1/policy.onnx

Gymnasium stands in for the robot: read your sensors in place of ``reset`` and ``step``, and send
the action to your actuators in place of ``step``.
"""

from __future__ import annotations

import sys

import gymnasium

from trpo_deploy import OnnxPolicy


def main(path: str) -> None:
    """Run one episode and print its return."""
    policy = OnnxPolicy(path)
    assert policy.spec.env_id is not None
    robot = gymnasium.make(policy.spec.env_id)
    observation, _ = robot.reset(seed=0)
    total, over, state = 0.0, False, None
    while not over:
        action, state = policy.predict(observation, state)
        observation, reward, terminated, truncated, _ = robot.step(action)
        total += float(reward)
        over = terminated or truncated
    print(f"{policy.spec.env_id}: return {total:.1f}")


if __name__ == "__main__":
    main(sys.argv[1])
