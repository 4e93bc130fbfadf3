"""What happens beside the training: evaluations, the best policy, the log as a file."""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecEnv

from trpo_deploy.model_dir import ModelDir, atomic_path, atomic_write
from trpo_deploy.train.checkpoint import (
    Checkpoint,
    course_state,
    learner_state,
    load_checkpoint,
    restore_course,
    restore_learner,
    restore_randomness,
    space_texts,
)
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
        shutil.rmtree(self._folder.best.root, ignore_errors=True)
        for name, content in self._best_files.items():
            atomic_write(self._folder.best.root / name, content)
        for path in (self._folder.evaluations, self._folder.learning_curve):
            path.unlink(missing_ok=True)
        if self._points:
            self._write()

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


class CheckpointCallback(BaseCallback):
    """Keeps the run as it was before the last rollout, and writes it out now and then.

    Args:
        config: of the run.
        folder: where the checkpoint goes.
        evaluation: whose evaluations belong to it.
        log: whose rows do.
        resumed: what to go on from, or None for a run from the beginning.
        note: is told if the environments cannot be put where they stood.
    """

    model: TRPO

    def __init__(
        self,
        config: TrainConfig,
        folder: ModelDir,
        evaluation: EvaluationCallback,
        log: CsvLog,
        resumed: Checkpoint | None,
        note: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._config = config
        self._folder = folder
        self._evaluation = evaluation
        self._log = log
        self._resumed = resumed
        self._note = note
        self._kept: bytes | None = None
        self._written_at = 0 if resumed is None else resumed.timesteps

    def _on_training_start(self) -> None:
        if self._resumed is None:
            return
        restore_learner(self.model, self._resumed.learner)
        if not restore_course(self.model, self._resumed.course):
            self._note(
                f"{self._config.env_id} does not tell where it stands: new episodes start, and "
                "the run goes on otherwise than it would have without the interruption"
            )
        _restore_pending(self.logger, self._resumed.log)
        self._kept = self._resumed.dump()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self._resumed is not None:
            # SB3 has drawn gSDE's noise for this rollout by now, and so had the run before.
            restore_randomness(self.model, self._resumed.course)
            if self._resumed.finished and self.model.use_sde:
                self.model.policy.reset_noise(self._config.n_envs)
            self._resumed = None
        self._keep(finished=False)
        if self.num_timesteps - self._written_at >= self._config.checkpoint_every:
            self.write()

    def _on_training_end(self) -> None:
        # A run that was ended in the middle of a rollout goes on from the rollout's start.
        if self.model.rollout_buffer.full:
            self._keep(finished=True)

    def _keep(self, *, finished: bool) -> None:
        assert self.model.env is not None
        self._kept = Checkpoint(
            config=self._config.to_dict(),
            spaces=space_texts(self.model.env),
            learner=learner_state(self.model),
            course=course_state(self.model),
            log=_pending(self.logger) | {"rows": self._log.n_rows},
            evaluation=self._evaluation.state(),
            finished=finished,
        ).dump()

    @property
    def any(self) -> bool:
        """Whether the run came as far as its first rollout."""
        return self._kept is not None

    def write(self) -> None:
        """Write what was kept last."""
        assert self._kept is not None
        atomic_write(self._folder.checkpoint, self._kept)
        self._written_at = self.num_timesteps

    def rewind(self) -> None:
        """Put the learner where it was kept last: an update may have been half done."""
        assert self._kept is not None
        restore_learner(self.model, load_checkpoint(self._kept).learner)


_PENDING = ("name_to_value", "name_to_count", "name_to_excluded")


def _pending(logger: Logger) -> dict[str, Any]:
    """Values that an update has logged for the next row."""
    return {name: dict(getattr(logger, name)) for name in _PENDING}


def _restore_pending(logger: Logger, state: dict[str, Any]) -> None:
    for name in _PENDING:
        getattr(logger, name).update(state[name])


class CsvLog(KVWriter):
    """SB3's log as a CSV file that is whole at any time.

    Args:
        folder: where the file goes.
        n_rows: keep so many rows of the file that is there.
        report: called with each row.
    """

    def __init__(
        self,
        folder: ModelDir,
        n_rows: int = 0,
        report: Callable[[dict[str, Any]], None] = lambda _: None,
    ) -> None:
        self._path = folder.progress
        self._report = report
        self._rows: list[dict[str, Any]] = []
        if n_rows and self._path.is_file():
            with self._path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))[:n_rows]
            self._rows = [{k: v for k, v in row.items() if v != ""} for row in rows]

    @property
    def n_rows(self) -> int:
        """Rows so far."""
        return len(self._rows)

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,  # noqa: ARG002 - it is among the values as time/total_timesteps
    ) -> None:
        """Add a row and write the file anew."""
        row = {
            # Without the type: a float32 is written shorter than the float that a resume reads.
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in sorted(key_values.items())
            if "csv" not in key_excluded.get(name, ())
        }
        self._rows.append(row)
        columns = sorted({name for each in self._rows for name in each})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(self._rows)
        atomic_write(self._path, text.getvalue())
        self._report(row)

    def close(self) -> None:
        """Nothing is open between two rows."""
