"""Environments and callbacks of runs with several ranks, to be named ``module:Id``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback

from tests.train.environments import RandomEnv
from tests.train.registration import register

WAIT_FOR = "TRPO_DEPLOY_TEST_WAIT_FOR"
"""Environment variable: the file that :class:`WaitingEnv` waits for."""


class SmallEnv(RandomEnv):
    """An environment whose state a checkpoint can hold."""

    def __init__(self) -> None:
        super().__init__(spaces.Box(-1, 1, (2,)))


class FailingEnv(SmallEnv):
    """Fails in its 20th step, in rank 1 only."""

    taken = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        if self.taken == 20 and os.environ.get("RANK") == "1":
            raise ValueError("the motor is hot")
        return super().step(action)


class WaitingEnv(SmallEnv):
    """Waits in its 100th step in rank 1, until a file exists: then a test has done its part."""

    taken = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken += 1
        if self.taken == 100 and os.environ["RANK"] == "1":
            while not Path(os.environ[WAIT_FOR]).exists():
                time.sleep(0.05)
        return super().step(action)


class UnequalEnv(SmallEnv):
    """Episodes of other lengths in rank 1, with one global generator for the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 7 if os.environ.get("RANK") == "1" else 20

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        if os.environ.get("RANK") == "1":
            reward += float(np.random.normal())
        return observation, reward, terminated, truncated, info


class StopAt(BaseCallback):
    """Stops a run after a number of steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def _on_step(self) -> bool:
        return self.num_timesteps < self.steps


class Fail(BaseCallback):
    """Fails at the start of the third rollout."""

    rollouts = 0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.rollouts += 1
        if self.rollouts == 3:
            raise ValueError("no room")


register("Small-v0", SmallEnv)
register("FailingRank-v0", FailingEnv)
register("Unequal-v0", UnequalEnv)
register("Waiting-v0", WaitingEnv)
