"""Returns and lengths of the episodes of vectorized environments, as ``Monitor`` reports them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from trpo_deploy.spec.spaces import Array


class EpisodeStatistics:
    """Adds ``episode`` to the info of the last step of an episode, unless it is there.

    Args:
        n_envs: Number of environments.
    """

    def __init__(self, n_envs: int) -> None:
        self._start = time.time()
        self._returns = np.zeros(n_envs)
        self._lengths = np.zeros(n_envs, dtype=np.int64)

    def reset(self) -> None:
        """Start new episodes in all environments."""
        self._returns[:], self._lengths[:] = 0, 0

    def step(self, rewards: Array, ended: Array, infos: list[dict[str, Any]]) -> None:
        """Count a step.

        Args:
            rewards: ``(envs,)``.
            ended: Indices of the environments whose episode ended.
            infos: An info for each environment; those of ``ended`` get their episode.
        """
        self._returns += rewards
        self._lengths += 1
        for i in ended:
            episode = {
                "r": round(float(self._returns[i]), 6),
                "l": int(self._lengths[i]),
                "t": round(time.time() - self._start, 6),
            }
            infos[i].setdefault("episode", episode)
        self._returns[ended], self._lengths[ended] = 0, 0
