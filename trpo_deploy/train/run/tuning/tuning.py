"""Tunes the settings of a task: runs the trials of a study, and reports the best one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from trpo_deploy.envs.returns import return_digits
from trpo_deploy.errors import TrainingError
from trpo_deploy.train.run.benchmark.runner import benchmark
from trpo_deploy.train.run.benchmark.variants import Variant
from trpo_deploy.train.run.environments import make_training_env
from trpo_deploy.train.run.jobs.lease import Lease
from trpo_deploy.train.run.jobs.loop import work
from trpo_deploy.train.run.tuning.preset import write_preset
from trpo_deploy.train.run.tuning.report import write_report
from trpo_deploy.train.run.tuning.space import Space, read_space
from trpo_deploy.train.run.tuning.storage import storage_errors
from trpo_deploy.train.run.tuning.study import StudyFolder, Task, trial_lease
from trpo_deploy.train.run.tuning.trial import ERROR, SETTINGS, TrialJob
from trpo_deploy.train.vec_env.make import closed_after

FIRST_FRESH_SEED = 100
"""First seed of the comparison. Trials have seeds from 0 on, benchmarks from 200 on."""
_MAX_FAILURES = 5
"""Trials of a process that may fail in a row; the reason is then hardly their settings.

A full disk or a lost GPU would otherwise use up the trials of a study.
"""


@dataclass(frozen=True)
class Result:
    """The best trial of a study."""

    number: int
    settings: list[str]
    """``key=value`` each."""
    value: float
    """Mean over the seeds of the last return. The best of many is better than it will be again."""


def tune(
    task: Task,
    space_file: Path | None,
    folder: StudyFolder,
    n_trials: int,
    jobs: int,
    report: Callable[[str], None],
) -> Result:
    """Run the missing trials of a study, and write its results.

    Other processes may do the same with the same folder; they divide the trials.

    Args:
        task: What to tune.
        space_file: Search space, see :func:`~.space.read_space`.
        folder: Folder of the study.
        n_trials: Number of trials, of all processes together.
        jobs: Number of trials at the same time in this process.
        report: Called with a line of text after each trial.

    Raises:
        ConfigError: A setting is invalid, or the study in the folder is another one.
        EnvError: The environment cannot be made.
        SpaceError: TRPO does not support the environment's spaces.
        ModelDirError: The folder holds something else, or cannot be written to.
        TrainingError: No trial succeeded, a run of the comparison failed, or the storage failed.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = read_space(space_file, task.config)
    with closed_after(make_training_env(task.config())):
        pass  # before the folder is made: each trial would fail
    with storage_errors("run the same command again to continue the study"):
        study = folder.open(task, space)
        trials = _Trials(study, task, space, folder, n_trials, report)
        work(trials, jobs)
        best = _best(study)
        write_report(study, folder)
    comment = (
        f"trpo-deploy tune: trial {best.number} of {len(study.trials)}, mean return "
        f"{best.value:.6g} over {task.n_seeds} seed{'s' if task.n_seeds > 1 else ''}"
    )
    write_preset(task.config(best.settings), comment, folder.preset)
    report(f"comparing trial {best.number} with the default on fresh seeds")
    tuned = Variant(f"trial-{best.number}", str(folder.preset))
    benchmark(
        [task.config().env_id],
        2 * task.n_seeds,
        task.config().n_timesteps,
        folder.comparison,
        jobs * task.n_seeds,
        report,
        [task.base, tuned],
        FIRST_FRESH_SEED,
    )
    return best


def _best(study: optuna.Study) -> Result:
    """The completed trial with the highest mean return."""
    found = [
        Result(trial.number, trial.user_attrs[SETTINGS], trial.value)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if trial.value is not None and SETTINGS in trial.user_attrs  # else added by another program
    ]
    if not found:
        raise TrainingError(_all_failed(study.get_trials(deepcopy=False)))
    return max(found, key=lambda result: result.value)


def _all_failed(trials: list[FrozenTrial]) -> str:
    errors = [trial for trial in trials if ERROR in trial.user_attrs]
    last = f": trial {errors[-1].number}: {errors[-1].user_attrs[ERROR]}" if errors else ""
    return f"no trial of {len(trials)} succeeded{last}"


class _Trials:
    """The missing trials of a study, a :class:`~trpo_deploy.train.run.jobs.loop.Source`."""

    def __init__(
        self,
        study: optuna.Study,
        task: Task,
        space: Space,
        folder: StudyFolder,
        n_trials: int,
        report: Callable[[str], None],
    ) -> None:
        self._study = study
        self._task = task
        self._space = space
        self._folder = folder
        self._n_trials = n_trials
        self._report = report
        self._n_failed = 0
        self._has_waited = False

    def next_job(self) -> TrialJob | None:
        """A trial that a process left behind when it ended, or a new one."""
        # Held over both steps: a trial without a lease is then one of a process that has ended.
        with self._folder.leases.held("study"):
            trials = self._study.get_trials(deepcopy=False)
            for each in trials:
                if each.state == TrialState.RUNNING:
                    job = self._continued(each)
                    if job is not None:
                        return job
            if sum(each.state != TrialState.WAITING for each in trials) >= self._n_trials:
                return None
            # A seed for each trial: processes with the same seed would try the same settings.
            self._study.sampler = TPESampler(seed=len(trials))
            trial = self._study.ask()
            lease = self._folder.leases.take(trial_lease(trial.number))
            assert lease is not None
            return self._job(trial, lease)

    def is_done(self) -> bool:
        """Whether all trials have ended."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if running and not self._has_waited:
            self._has_waited = True
            numbers = ", ".join(str(trial.number) for trial in running)
            self._report(f"waiting for other processes that run the trials {numbers}")
        return not running

    def _continued(self, running: FrozenTrial) -> TrialJob | None:
        """A job that continues a running trial; None if another job or process runs it."""
        lease = self._folder.leases.take(trial_lease(running.number))
        if lease is None:
            return None
        if self._study.get_trials(deepcopy=False)[running.number].state != TrialState.RUNNING:
            lease.close()  # it has just ended
            return None
        # Optuna has no public name for the id that its constructor takes.
        return self._job(optuna.Trial(self._study, running._trial_id), lease)

    def _job(self, trial: optuna.Trial, lease: Lease) -> TrialJob:
        trial.set_user_attr(SETTINGS, self._space.suggest(trial))
        return TrialJob(self._study, trial, self._task, self._folder, lease, self._end)

    def _end(self, trial: FrozenTrial) -> None:
        self._report(_line(trial, self._n_trials))
        self._n_failed = self._n_failed + 1 if trial.state == TrialState.FAIL else 0
        if self._n_failed >= _MAX_FAILURES:
            raise TrainingError(
                f"{_MAX_FAILURES} trials in a row failed: trial {trial.number}: "
                f"{trial.user_attrs.get(ERROR)}; run the same command again to continue the study"
            )


def _line(trial: FrozenTrial, n_trials: int) -> str:
    name = f"trial {trial.number} of {n_trials}"
    if trial.state == TrialState.FAIL:
        return f"{name}: failed: {trial.user_attrs.get(ERROR)}"
    assert trial.value is not None
    value = f"{trial.value:{return_digits(trial.value)}}"
    if trial.state == TrialState.PRUNED:
        return f"{name}: pruned after {trial.last_step:,} steps with {value}"
    return f"{name}: {value}"
