"""Callback that evaluates the policy between updates and keeps the best one."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from trpo_deploy.envs.episode import MAX_EPISODE_STEPS
from trpo_deploy.envs.returns import cut_episodes
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.run.environments import evaluation_seed
from trpo_deploy.train.run.policy_files import save_policy


@dataclass(frozen=True)
class EvaluationPoint:
    """One evaluation of a training run."""

    timesteps: int
    """Environment steps made before it."""
    mean: float
    """Mean return of the episodes."""
    std: float
    """Standard deviation of the returns."""


class EvaluationCallback(BaseCallback):
    """Evaluates between updates, saves the best policy, and stops the run at ``stop_return``.

    The first evaluation comes before the first step, so that the learning curve shows where the
    run began. Its policy is neither the best one nor a reason to stop.

    Every evaluation starts from the same seeds and uses the training's current statistics, so two
    evaluations differ only by the policy. (From the eleventh episode on an environment plays
    again; its next start may depend on the length of its previous episode.)

    Args:
        config: Configuration of the run.
        env: Environments to evaluate in.
        folder: Model folder to write to.
        report: Called after each evaluation.
        note: Called once if episodes had to be cut.
    """

    model: TRPO

    def __init__(
        self,
        config: TrainConfig,
        env: VecEnv,
        folder: ModelDir,
        report: Callable[[EvaluationPoint], None],
        note: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._config = config
        self._env = env
        self._folder = folder
        self._report = report
        self._note: Callable[[str], None] | None = note
        self._returns: list[list[float]] = []
        self._lengths: list[list[int]] = []
        self._points: list[EvaluationPoint] = []
        self._best_files: dict[str, bytes] = {}

    @property
    def best(self) -> EvaluationPoint | None:
        """The evaluation of a trained policy with the highest mean return; the first of equals."""
        trained = (point for point in self._points if point.timesteps > 0)
        return max(trained, key=lambda point: point.mean, default=None)

    @property
    def last(self) -> EvaluationPoint | None:
        """The most recent evaluation."""
        return self._points[-1] if self._points else None

    @property
    def reached(self) -> bool:
        """Whether the last evaluation reached ``stop_return``."""
        stop, last = self._config.stop_return, self.last
        return stop is not None and last is not None and last.timesteps > 0 and last.mean >= stop

    @property
    def last_returns(self) -> list[float]:
        """Returns of the last evaluation's episodes."""
        return self._returns[-1]

    @property
    def best_returns(self) -> list[float]:
        """Returns of the best evaluation's episodes."""
        assert self.best is not None
        return self._returns[self._points.index(self.best)]

    def state(self) -> dict[str, Any]:
        """The evaluations and the best policy's files, for a checkpoint."""
        timesteps = [point.timesteps for point in self._points]
        kept = {"timesteps": timesteps, "returns": self._returns, "lengths": self._lengths}
        return {**kept, "best_files": self._best_files}

    def restore(self, state: dict[str, Any]) -> None:
        """Return to a state that :meth:`state` returned, and the folder's files with it."""
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
        # Delete only files that nothing replaces: the disk may be full.
        later = [] if self._points else [folder.evaluations, folder.learning_curve]
        later += [p for p in (best.policy_zip, best.vecnormalize) if p.name not in self._best_files]
        for path in later:
            path.unlink(missing_ok=True)

    def _on_rollout_start(self) -> None:
        # Called between two updates, so the policy is complete.
        at_start = self.last is None and self.num_timesteps == 0
        if at_start or self._steps_since_last() >= self._config.eval_every:
            self._evaluate()

    def _on_step(self) -> bool:
        return not self.reached

    def _on_training_end(self) -> None:
        if not self.reached and self._steps_since_last() > 0:
            self._evaluate()

    def _steps_since_last(self) -> int:
        # The model's count: a run that a callback stops returns to the start of the rollout.
        return self.model.num_timesteps - (self.last.timesteps if self.last else 0)

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
        point, best = _point(self.model.num_timesteps, returns), self.best
        self._points.append(point)
        self._returns.append([float(each) for each in returns])
        self._lengths.append([int(each) for each in lengths])
        self.logger.record("eval/mean_reward", point.mean)
        self.logger.record("eval/std_reward", point.std)
        if self.best is not best:
            save_policy(self.model, self._folder.best)
            pair = (self._folder.best.policy_zip, self._folder.best.vecnormalize)
            self._best_files = {path.name: path.read_bytes() for path in pair if path.is_file()}
        self._write()
        self._report(point)
        cut = sum(length >= MAX_EPISODE_STEPS for length in lengths)
        if cut and self._note is not None:
            self._note(cut_episodes(self._config.env_id, cut, len(lengths)))
            self._note = None

    def _write(self) -> None:
        timesteps = np.array([point.timesteps for point in self._points])
        results = np.array(self._returns)
        buffer = io.BytesIO()
        np.savez(buffer, timesteps=timesteps, results=results, ep_lengths=np.array(self._lengths))
        atomic_write(self._folder.evaluations, buffer.getvalue())
        # Imported late: matplotlib takes 30 MB, and only the first evaluation needs it.
        from trpo_deploy.train.run.plots import learning_curve

        picture = learning_curve(self._config.env_id, timesteps, results)
        atomic_write(self._folder.learning_curve, picture)


def _point(timesteps: int, returns: list[float]) -> EvaluationPoint:
    return EvaluationPoint(timesteps, float(np.mean(returns)), float(np.std(returns)))
