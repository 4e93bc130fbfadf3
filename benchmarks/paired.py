"""What the benchmarks of training and of updates share: an environment, spreads, result files."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
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
        """Start an episode that never ends by itself."""
        super().reset(seed=seed, options=options)
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:  # noqa: ARG002
        """One step, whatever the action."""
        return self._observation(), self.np_random.normal(), False, False, {}

    def _observation(self) -> Array:
        start = int(self.np_random.integers(WINDOWS))
        window: Array = self._strip[start : start + self._size]
        return window.reshape(self.observation_space.shape)


def algorithm(side: str) -> type[Any]:
    """The TRPO of one side. The other one is not imported: its memory would count for both."""
    if side == "ours":
        from trpo_deploy import TRPO

        return TRPO
    import sb3_contrib

    return sb3_contrib.TRPO


def silence(model: Any) -> None:
    """No table after each update."""
    model.set_logger(Logger(folder=None, output_formats=[]))


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median and extremes over the pairs."""
    found = sorted(values)
    return {"median": statistics.median(found), "min": found[0], "max": found[-1]}


def with_spread(values: dict[str, float]) -> str:
    """As it stands in a table."""
    return "{median:.2f} ({min:.2f} - {max:.2f})".format(**values)


def table(header: str, rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the header's cells have bars between them."""
    line = " | ".join("---" for _ in header.split("|"))
    return "".join(f"| {each} |\n" for each in (header, line, *map(" | ".join, rows)))


def machine() -> str:
    """What the numbers were measured on."""
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "stable-baselines3", "sb3-contrib")
    )
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{packages}"
    )


def write_results(folder: Path, name: str, values: dict[str, Any], text: str) -> None:
    """Write the text as ``NAME.md`` and the values as ``NAME.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(values, indent=2) + "\n")
    (folder / f"{name}.md").write_text(text)
