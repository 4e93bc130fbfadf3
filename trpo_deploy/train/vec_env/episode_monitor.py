"""Statistics of the environment's own episodes, whatever its wrappers do."""

from __future__ import annotations

import time
from typing import Any

from stable_baselines3.common.monitor import Monitor


class EpisodeMonitor(Monitor):
    """``Monitor`` inside of the wrappers, as RL Zoo has it.

    So a return is the sum of the environment's rewards, and not of those that ``ClipRewardEnv``
    makes of them. A wrapper may end an episode (``TimeLimit``), or end what the policy sees as one
    while the environment's goes on (``EpisodicLifeEnv``). Only its ``reset`` tells which: in the
    first case it resets the environment.
    """

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._completed: dict[str, Any] | None = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode; one that runs is complete, since a wrapper ended it."""
        if self.rewards and not self.needs_reset and self._completed is None:
            seconds = round(time.time() - self.t_start, 6)
            returns = round(sum(self.rewards), 6)
            self._completed = {"r": returns, "l": len(self.rewards), "t": seconds}
        return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        result = super().step(action)
        if self.needs_reset:
            self._completed = result[4]["episode"]
        return result

    def take_completed(self) -> dict[str, Any] | None:
        """Statistics of the first episode that was completed since the last call, or None."""
        completed, self._completed = self._completed, None
        return completed
