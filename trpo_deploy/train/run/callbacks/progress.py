"""Callbacks that report progress and measure the speed of each phase."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from trpo_deploy.train.algorithm.trpo import TRPO


class TimedCallbacks(CallbackList):
    """Runs callbacks and logs the steps/s of rollouts and updates.

    The time that the callbacks take, evaluations above all, counts for neither phase.
    """

    model: TRPO

    def __init__(self, callbacks: list[BaseCallback]) -> None:
        super().__init__(callbacks)
        self._steps = 0
        self._rollout_start = 0.0
        self._rollout_end: float | None = None

    def _on_rollout_start(self) -> None:
        if self._rollout_end is not None:
            seconds = time.perf_counter() - self._rollout_end
            rollout = self.model.num_timesteps - self._steps
            self.logger.record("time/update_fps", round(rollout / seconds))
        super()._on_rollout_start()
        self._steps = self.model.num_timesteps
        self._rollout_start = time.perf_counter()

    def _on_rollout_end(self) -> None:
        seconds = time.perf_counter() - self._rollout_start
        rollout = self.model.num_timesteps - self._steps
        self.logger.record("time/rollout_fps", round(rollout / seconds))
        paths = self.model.paths
        for name, path in zip(("update", "rollout"), paths, strict=True):
            self.logger.record(f"time/{name}_path", path, exclude="tensorboard")
        super()._on_rollout_end()
        self._rollout_end = time.perf_counter()


class ProgressCallback(BaseCallback):
    """Reports the progress of a run at its start and after each rollout.

    Args:
        report: Called with the steps so far and the mean return of the last training episodes,
            None before the first episode ends.
    """

    def __init__(self, report: Callable[[int, float | None], None]) -> None:
        super().__init__()
        self._report = report

    def _on_training_start(self) -> None:
        self._report(self.num_timesteps, None)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        episodes = self.model.ep_info_buffer or ()
        returns = [episode["r"] for episode in episodes]
        self._report(self.num_timesteps, float(np.mean(returns)) if returns else None)
