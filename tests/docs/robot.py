"""The robot of docs/robots.md: Ant-v5 behind a driver with orders of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from trpo_deploy import OnnxPolicy


class Robot:
    """A driver, which is on for ten steps.

    Args:
        onnx: A policy for Ant-v5, which has the names.
    """

    def __init__(self, onnx: Path) -> None:
        spec = OnnxPolicy(onnx).spec
        rng = np.random.default_rng(0)
        observed = [each.name for each in spec.observation_components["obs"]]
        moved = [each.name for each in spec.action_components]
        self._sensors, self._motors = rng.permutation(len(observed)), rng.permutation(len(moved))
        self.sensor_names = [observed[index] for index in self._sensors]
        self.motor_names = [moved[index] for index in self._motors]
        self._env = gymnasium.make("Ant-v5")
        self._observation, _ = self._env.reset(seed=0)
        self.sent: list[np.ndarray[Any, Any]] = []

    def is_on(self) -> bool:
        return len(self.sent) < 10

    def read(self) -> tuple[np.ndarray[Any, Any], float]:
        return self._observation[self._sensors], time.monotonic()

    def send(self, torques: np.ndarray[Any, Any]) -> None:
        self.sent.append(torques)
        action = np.empty(len(torques), np.float32)
        action[self._motors] = torques / 150
        self._observation, *_ = self._env.step(action)
