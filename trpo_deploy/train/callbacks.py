"""What happens beside the training: evaluations, the best policy, the log as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.vec_env import VecEnv

from trpo_deploy.model_dir import ModelDir, atomic_path, atomic_write
from trpo_deploy.train.config import TrainConfig
from trpo_deploy.train.plots import learning_curve
from trpo_deploy.train.trpo import TRPO
from trpo_deploy.train.vec_envs import evaluation_seed


@dataclass(frozen=True)
class EvaluationPoint:
    """One evaluation during a training."""

    timesteps: int
    mean: float
    std: float


class EvaluationCallback(BaseCallback):
    """Evaluates between updates, keeps the best policy, and ends the run at a return.

    Every evaluation plays the same seeded episodes with the training's statistics as they are,
    so that two of them differ by the policy alone.
    """

    model: TRPO

    def __init__(
        self,
        config: TrainConfig,
        env: VecEnv,
        folder: ModelDir,
        report: Callable[[EvaluationPoint], None],
    ) -> None:
        super().__init__()
        self._config = config
        self._env = env
        self._folder = folder
        self._report = report
        self._returns: list[list[float]] = []
        self._lengths: list[list[int]] = []
        self._points: list[EvaluationPoint] = []

    @property
    def best(self) -> EvaluationPoint | None:
        """The evaluation with the highest mean return; the first of equal ones."""
        return max(self._points, key=lambda point: point.mean, default=None)

    @property
    def last(self) -> EvaluationPoint | None:
        """The most recent evaluation."""
        return self._points[-1] if self._points else None

    @property
    def reached(self) -> bool:
        """Whether the return at which the run ends was reached."""
        stop = self._config.stop_return
        return stop is not None and self.last is not None and self.last.mean >= stop

    def _on_rollout_start(self) -> None:
        # Between two updates: the policy is what the last update made it.
        since = self.num_timesteps - (self.last.timesteps if self.last else 0)
        if since >= self._config.eval_every:
            self._evaluate()

    def _on_step(self) -> bool:
        return not self.reached

    def _on_training_end(self) -> None:
        if self.last is None or (not self.reached and self.last.timesteps < self.num_timesteps):
            self._evaluate()

    def _evaluate(self) -> None:
        self._env.seed(evaluation_seed(self._config))
        returns, lengths = evaluate_policy(
            self.model,
            self._env,
            n_eval_episodes=self._config.eval_episodes,
            deterministic=True,
            return_episode_rewards=True,
        )
        assert isinstance(returns, list)
        assert isinstance(lengths, list)
        mean, std = float(np.mean(returns)), float(np.std(returns))
        best = self.best
        self._points.append(EvaluationPoint(self.num_timesteps, mean, std))
        self._returns.append(returns)
        self._lengths.append(lengths)
        self.logger.record("eval/mean_reward", mean)
        self.logger.record("eval/std_reward", std)
        if best is None or mean > best.mean:
            save_policy(self.model, self._folder.best)
        self._write()
        self._report(self._points[-1])

    def _write(self) -> None:
        timesteps = np.array([point.timesteps for point in self._points])
        results = np.array(self._returns)
        buffer = io.BytesIO()
        np.savez(buffer, timesteps=timesteps, results=results, ep_lengths=np.array(self._lengths))
        atomic_write(self._folder.evaluations, buffer.getvalue())
        picture = learning_curve(self._config.env_id, timesteps, results)
        atomic_write(self._folder.learning_curve, picture)


def save_policy(model: TRPO, folder: ModelDir) -> None:
    """Write the policy and its statistics, each whole or not at all."""
    statistics = model.get_vec_normalize_env()
    if statistics is not None:
        with atomic_path(folder.vecnormalize) as path:
            statistics.save(str(path))
    buffer = io.BytesIO()
    model.save(buffer)
    atomic_write(folder.policy_zip, buffer.getvalue())


class ProgressCallback(BaseCallback):
    """Tells how far a run is, once a rollout."""

    def __init__(self, report: Callable[[int, float | None], None]) -> None:
        super().__init__()
        self._report = report

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        episodes = self.model.ep_info_buffer or ()
        returns = [episode["r"] for episode in episodes]
        self._report(self.num_timesteps, float(np.mean(returns)) if returns else None)


class CsvLog(KVWriter):
    """SB3's log as a CSV file that is whole at any time."""

    def __init__(self, folder: ModelDir) -> None:
        self._path = folder.progress
        self._rows: list[dict[str, Any]] = []

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,  # noqa: ARG002 - it is among the values as time/total_timesteps
    ) -> None:
        """Add a row and write the file anew."""
        self._rows.append(
            {k: v for k, v in sorted(key_values.items()) if "csv" not in key_excluded.get(k, ())}
        )
        columns = sorted({name for row in self._rows for name in row})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(self._rows)
        atomic_write(self._path, text.getvalue())

    def close(self) -> None:
        """Nothing is open between two rows."""
