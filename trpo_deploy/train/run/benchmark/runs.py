"""The runs of a benchmark as jobs that processes and machines share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train.run.benchmark.results import evaluated_timesteps, final_return
from trpo_deploy.train.run.benchmark.variants import Variant
from trpo_deploy.train.run.jobs.lease import Lease, Leases
from trpo_deploy.train.run.jobs.process import TrainProcess

EVAL_EVERY = 50_000
EVAL_EPISODES = 20


@dataclass(frozen=True)
class Run:
    """One run of a benchmark."""

    name: str
    """For messages."""
    env_id: str
    seed: int
    timesteps: int
    variant: Variant
    folder: ModelDir

    @property
    def is_done(self) -> bool:
        """Whether it has been trained and evaluated to its end."""
        return evaluated_timesteps(self.folder) >= self.timesteps

    @property
    def lease(self) -> str:
        """Name of its lease."""
        return f"{self.variant.name}-{self.folder.root.parent.name}-{self.folder.root.name}"

    def process(self) -> TrainProcess:
        """The process that trains it."""
        options = [
            *("-n", str(self.timesteps), "--seed", str(self.seed)),
            *("--eval-every", str(EVAL_EVERY), "--eval-episodes", str(EVAL_EPISODES)),
            *("--checkpoint-every", str(EVAL_EVERY)),
            *self.variant.options,
        ]
        return TrainProcess(self.env_id, self.folder, options)


class Runs:
    """The missing runs of a benchmark, a :class:`~trpo_deploy.train.run.jobs.loop.Source`.

    Args:
        runs: All runs.
        leases: The leases on them.
        report: Called with a line of text before and after each run, and when others do all that is
            left.

    Attributes:
        failures: A message for each run that failed in this process.
    """

    def __init__(self, runs: Iterable[Run], leases: Leases, report: Callable[[str], None]) -> None:
        self.failures: list[str] = []
        self._missing = list(runs)
        self._leases = leases
        self._report = report
        self._has_waited = False

    def next_job(self) -> RunJob | None:
        """The first missing run that nobody trains."""
        for run in list(self._missing):
            lease = self._leases.take(run.lease)
            if lease is None:
                continue
            # After taking the lease: the last evaluation is written before the policy.
            if not run.is_done:
                self._report(f"{run.name}: training")
                return RunJob(run, lease, self)
            lease.close()
            self._finish(run)
        return None

    def is_done(self) -> bool:
        """Whether every run is finished, or has failed here."""
        if self._missing and not self._has_waited:
            self._has_waited = True
            names = ", ".join(run.name for run in self._missing)
            self._report(f"waiting for other processes that train {names}")
        return not self._missing

    def end(self, run: Run, error: str | None) -> None:
        """Note the end of a run that this process trained."""
        if error is None:
            self._finish(run)
        else:
            self._missing.remove(run)
            self.failures.append(f"{run.name}: {error}")

    def _finish(self, run: Run) -> None:
        self._missing.remove(run)
        self._report(f"{run.name}: {final_return(run.folder):.1f}")


class RunJob:
    """Trains one run."""

    def __init__(self, run: Run, lease: Lease, runs: Runs) -> None:
        self._run = run
        self._lease = lease
        self._runs = runs
        self._process = run.process()

    def advance(self) -> bool:
        """Return whether the process has ended, or has to stop."""
        if self._lease.is_lost:
            return True
        code = self._process.poll()
        if code is not None:
            self._runs.end(self._run, self._process.error if code else None)
        return code is not None

    def stop(self) -> None:
        """Ask the process to stop."""
        self._process.stop()

    def close(self) -> None:
        """Wait for the end of the process."""
        self._process.close()
        self._lease.close()
