"""The two sides of a training benchmark, and an environment that costs nothing."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
from gymnasium import spaces
from stable_baselines3.common.logger import Logger

from trpo_deploy.spec.spaces import Array

SIDES = ("ours", "sb3_contrib")
WINDOWS = 4096


class Noise(gymnasium.Env[Any, Any]):
    """Random observations and rewards at no cost: windows into one strip of noise."""

    def __init__(self, observation_space: spaces.Box, action_space: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self._size = math.prod(observation_space.shape)
        low, high = float(observation_space.low.min()), float(observation_space.high.max())
        dtype: Any = observation_space.dtype
        self._strip = spaces.Box(low, high, (self._size + WINDOWS,), dtype, seed=0).sample()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start an episode; it never ends by itself."""
        super().reset(seed=seed, options=options)
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:  # noqa: ARG002
        """Return the next window, whatever the action."""
        return self._observation(), self.np_random.normal(), False, False, {}

    def _observation(self) -> Array:
        start = int(self.np_random.integers(WINDOWS))
        window: Array = self._strip[start : start + self._size]
        return window.reshape(self.observation_space.shape)


class Samples(gymnasium.Env[Any, Any]):
    """Observations and rewards drawn beforehand, from any space."""

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        observation_space.seed(0)
        self._observations = [observation_space.sample() for _ in range(WINDOWS)]
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; it never ends by itself."""
        super().reset(seed=seed, options=options)
        return self._observations[self._steps % WINDOWS], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # noqa: ARG002
        """Return the next observation, whatever the action."""
        self._steps += 1
        return self._observations[self._steps % WINDOWS], self._steps % 7 / 7, False, False, {}


def algorithm(side: str) -> type[Any]:
    """The TRPO class of one side. Only this side is imported, so that its memory is its own."""
    if side == "ours":
        from trpo_deploy import TRPO

        return TRPO
    import sb3_contrib

    return sb3_contrib.TRPO


def silence(model: Any) -> None:
    """Turn off the table that SB3 prints after each update."""
    model.set_logger(Logger(folder=None, output_formats=[]))
