"""Small seeded environments of any space."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class RandomEnv(gymnasium.Env[Any, Any]):
    """Random observations, and a reward that depends on the action.

    It asserts that the space contains every action.
    """

    def __init__(
        self,
        action_space: spaces.Space[Any],
        observation_space: spaces.Space[Any] | None = None,
        length: int = 20,
    ) -> None:
        vector = spaces.Box(-1, 1, (3,))
        self.observation_space = vector if observation_space is None else observation_space
        self.action_space = action_space
        self.length = length
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), (action, self.action_space)
        self.steps += 1
        reward = float(np.mean(action) + self.np_random.normal())
        terminated = bool(self.np_random.random() < 0.05)
        return self.observation_space.sample(), reward, terminated, self.steps >= self.length, {}


class MatchEnv(gymnasium.Env[Any, Any]):
    """One-step episodes; the reward is the fraction of the action that is right.

    The right action is the same in every episode, so a working policy finds it.
    """

    def __init__(self, action_space: spaces.Space[Any], right: Any) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,))
        self.action_space = action_space
        self.right = np.asarray(right)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), (action, self.action_space)
        reward = float(np.mean(np.asarray(action) == self.right))
        return np.zeros(2, np.float32), reward, True, False, {}
