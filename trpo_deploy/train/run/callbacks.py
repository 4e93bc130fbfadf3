"""What happens between updates: evaluations, the best policy, how far and how fast it goes."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from trpo_deploy.files.atomic import atomic_path, atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.run.environments import evaluation_seed


@dataclass(frozen=True)
class EvaluationPoint:
    """One evaluation during a training."""

    timesteps: int
    mean: float
    std: float


class EvaluationCallback(BaseCallback):
    """Evaluates between updates, keeps the best policy, and ends the run at a return.

    Every evaluation begins from the same seeds, with the training's statistics as they are, so
    that two of them differ by the policy. (From the eleventh episode on an environment is played
    again, and where that starts may depend on how long the episode before was.)
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
        self._best_files: dict[str, bytes] = {}

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

    @property
    def last_returns(self) -> list[float]:
        """Of the last evaluation's episodes."""
        return self._returns[-1]

    @property
    def best_returns(self) -> list[float]:
        """Of the best evaluation's episodes."""
        assert self.best is not None
        return self._returns[self._points.index(self.best)]

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs, as plain values."""
        timesteps = [point.timesteps for point in self._points]
        kept = {"timesteps": timesteps, "returns": self._returns, "lengths": self._lengths}
        return {**kept, "best_files": self._best_files}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from these evaluations, in the folder as well: later ones are forgotten."""
        self._returns, self._lengths = state["returns"], state["lengths"]
        self._points = [
            _point(timesteps, returns)
            for timesteps, returns in zip(state["timesteps"], self._returns, strict=True)
        ]
        self._best_files = state["best_files"]
        best, folder = self._folder.best, self._folder
        for name, content in self._best_files.items():
            atomic_write(best.root / name, content)
        if self._points:
            self._write()
        # Only what has nothing to take its place: the disk may be full.
        later = [] if self._points else [folder.evaluations, folder.learning_curve]
        later += [p for p in (best.policy_zip, best.vecnormalize) if p.name not in self._best_files]
        for path in later:
            path.unlink(missing_ok=True)

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
        point, best = _point(self.num_timesteps, returns), self.best
        self._points.append(point)
        self._returns.append([float(each) for each in returns])
        self._lengths.append([int(each) for each in lengths])
        self.logger.record("eval/mean_reward", point.mean)
        self.logger.record("eval/std_reward", point.std)
        if best is None or point.mean > best.mean:
            save_policy(self.model, self._folder.best)
            pair = (self._folder.best.policy_zip, self._folder.best.vecnormalize)
            self._best_files = {path.name: path.read_bytes() for path in pair if path.is_file()}
        self._write()
        self._report(point)

    def _write(self) -> None:
        timesteps = np.array([point.timesteps for point in self._points])
        results = np.array(self._returns)
        buffer = io.BytesIO()
        np.savez(buffer, timesteps=timesteps, results=results, ep_lengths=np.array(self._lengths))
        atomic_write(self._folder.evaluations, buffer.getvalue())
        # Here and not above: whoever trains in Python has no use for 30 MB of matplotlib.
        from trpo_deploy.train.run.plots import learning_curve

        picture = learning_curve(self._config.env_id, timesteps, results)
        atomic_write(self._folder.learning_curve, picture)


def _point(timesteps: int, returns: list[float]) -> EvaluationPoint:
    return EvaluationPoint(timesteps, float(np.mean(returns)), float(np.std(returns)))


def save_policy(model: TRPO, folder: ModelDir) -> None:
    """Write the policy and its statistics, each whole or not at all."""
    statistics = model.get_vec_normalize_env()
    if statistics is not None:
        with atomic_path(folder.vecnormalize) as path:
            statistics.save(str(path))
    buffer = io.BytesIO()
    model.save(buffer)
    atomic_write(folder.policy_zip, buffer.getvalue())


class TimedCallbacks(CallbackList):
    """Callbacks, and how fast the two phases between which they are called go.

    What the callbacks themselves take, an evaluation above all, counts for neither phase.
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
    """Tells how far a run is, at its start and after each rollout."""

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
