"""One trial: its seeds train side by side, and their mean is reported to Optuna."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.run.benchmark.results import read_evaluations
from trpo_deploy.train.run.jobs.lease import Lease
from trpo_deploy.train.run.jobs.process import TrainProcess
from trpo_deploy.train.run.tuning.study import EVAL_EPISODES, N_EVALUATIONS, StudyFolder, Task

SETTINGS = "settings"
"""Attribute of a trial: its settings, a list of ``key=value``."""
RETURNS = "returns"
"""Attribute of a trial: the last return of each seed."""
ERROR = "error"
"""Attribute of a failed trial: the reason."""


class TrialJob:
    """Trains the seeds of a trial at once, so that it can be pruned early on their mean.

    A trial of a process that has ended is continued: its runs resume from their checkpoints.

    Args:
        study: The study.
        trial: A running trial whose settings are in its attributes.
        task: What to train.
        folder: Folder of the study.
        lease: The lease on the trial.
        on_end: Called with the trial after its end.
    """

    def __init__(
        self,
        study: optuna.Study,
        trial: optuna.Trial,
        task: Task,
        folder: StudyFolder,
        lease: Lease,
        on_end: Callable[[FrozenTrial], None],
    ) -> None:
        self._study = study
        self._trial = trial
        self._lease = lease
        self._on_end = on_end
        steps = task.config().n_timesteps
        parts = range(1, N_EVALUATIONS + 1)
        self._grid = sorted({max(1, steps * part // N_EVALUATIONS) for part in parts})
        # Another process may have reported some and ended.
        self._reported = len(study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        settings: list[str] = trial.user_attrs[SETTINGS]
        self._seeds = [
            TrainProcess(
                task.env_id, folder.run(trial.number, seed), _options(task, settings, steps, seed)
            )
            for seed in range(task.n_seeds)
        ]

    def advance(self) -> bool:
        """Report evaluations that all seeds have reached; return whether the trial has ended."""
        if self._lease.is_lost:
            return True
        codes = [seed.poll() for seed in self._seeds]
        failed = [i for i, code in enumerate(codes) if code]
        if failed:
            return self._fail(f"seed {failed[0]}: {self._seeds[failed[0]].error}")
        curves = [read_evaluations(seed.folder) for seed in self._seeds]
        known = [curve for curve in curves if curve is not None]
        ended = all(code == 0 for code in codes)
        if len(known) < len(curves):
            return ended and self._fail("a run has no evaluations")
        if ended:
            self._report(known, may_prune=False)
            return self._complete([float(means[-1]) for _, means in known])
        return self._report(known, may_prune=True)

    def stop(self) -> None:
        """Ask the processes to stop."""
        for seed in self._seeds:
            seed.stop()

    def close(self) -> None:
        """Wait for the end of the processes."""
        self.stop()
        for seed in self._seeds:
            seed.close()
        self._lease.close()

    def _report(self, curves: list[tuple[Array, Array]], *, may_prune: bool) -> bool:
        """Report the mean at each step that all seeds have reached; whether it was pruned.

        The trial is judged at each of them, so that it does not matter when this process looks.
        """
        reached = min(int(timesteps[-1]) for timesteps, _ in curves)
        # The last one is reported at the end of the runs.
        for step in self._grid[self._reported : -1]:
            if step > reached:
                break
            # Evaluations come between rollouts, whose lengths differ from trial to trial.
            values = [np.interp(step, timesteps, means) for timesteps, means in curves]
            self._trial.report(float(np.mean(values)), step)
            self._reported += 1
            if may_prune and self._trial.should_prune():
                return self._tell(TrialState.PRUNED)
        return False

    def _complete(self, returns: list[float]) -> bool:
        mean = float(np.mean(returns))
        if not math.isfinite(mean):
            return self._fail(f"the mean return is {mean}")
        self._trial.set_user_attr(RETURNS, returns)
        if self._reported < len(self._grid):
            self._trial.report(mean, self._grid[-1])
        return self._tell(TrialState.COMPLETE, mean)

    def _fail(self, error: str) -> bool:
        self._trial.set_user_attr(ERROR, error)
        return self._tell(TrialState.FAIL)

    def _tell(self, state: TrialState, value: float | None = None) -> bool:
        self._on_end(self._study.tell(self._trial, value, state, skip_if_finished=True))
        return True


def _options(task: Task, settings: list[str], steps: int, seed: int) -> list[str]:
    every = str(max(1, steps // N_EVALUATIONS))
    return [
        *("-n", str(steps), "--seed", str(seed)),
        *("--eval-every", every, "--eval-episodes", str(EVAL_EPISODES)),
        *("--checkpoint-every", every),
        *task.base.options,
        *("--set", "stop_return=null"),
        *(word for setting in settings for word in ("--set", setting)),
    ]
