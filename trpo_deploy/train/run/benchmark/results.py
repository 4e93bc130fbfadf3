"""The evaluations of a benchmark's runs, read from their folders."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from scipy import stats

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.model_dir import ModelDir, folder_name
from trpo_deploy.spec.spaces import Array


@dataclass(frozen=True, eq=False)
class TaskResult:
    """The evaluations of one task over its seeds."""

    env_id: str
    timesteps: Array
    """Environment steps before each evaluation, shape ``(evaluations,)``."""
    returns: Array
    """Mean return of each evaluation, shape ``(seeds, evaluations)``."""

    @property
    def final(self) -> Array:
        """The last evaluation of each seed, shape ``(seeds,)``."""
        last: Array = self.returns[:, -1]
        return last

    @property
    def best(self) -> Array:
        """The best evaluation of each seed, as Tianshou reports it, shape ``(seeds,)``."""
        best: Array = self.returns[:, self.timesteps > 0].max(axis=1)
        return best

    def mean_interval(self) -> tuple[float, float]:
        """95 % confidence interval of the mean final return, by Student's t.

        Returns:
            The bounds; NaN for a single seed.
        """
        n = len(self.final)
        if n < 2:
            return float("nan"), float("nan")
        half = stats.t.ppf(0.975, n - 1) * stats.sem(self.final)
        return float(self.final.mean() - half), float(self.final.mean() + half)

    def iqm(self) -> tuple[float, float, float]:
        """Interquartile mean of the final returns with its 95 % bootstrap interval.

        Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264): the mean of the middle half, and
        its percentiles over resamples of the seeds.

        Returns:
            The mean and the bounds of the interval; the bounds are NaN for a single seed.
        """
        value = float(stats.trim_mean(self.final, 0.25))
        if len(self.final) < 2:
            return value, float("nan"), float("nan")
        interval = stats.bootstrap(
            (self.final,),
            lambda sample, axis: stats.trim_mean(sample, 0.25, axis=axis),
            method="percentile",
            n_resamples=2000,
            rng=np.random.default_rng(0),
        ).confidence_interval
        return value, float(interval.low), float(interval.high)


def run_folder(output: Path, env_id: str, seed: int) -> ModelDir:
    """The model folder of one run."""
    return ModelDir(output / "runs" / folder_name(env_id) / f"seed-{seed}")


def read_evaluations(folder: ModelDir) -> tuple[Array, Array] | None:
    """The evaluations of a run so far; None if the file is missing or damaged.

    Resuming the run writes a damaged file again.

    Returns:
        Environment steps before each evaluation, shape ``(evaluations,)``, and the mean returns,
        shape ``(evaluations,)``.
    """
    try:
        # As bytes: np.load leaves the file open when the archive is damaged.
        with np.load(io.BytesIO(folder.evaluations.read_bytes())) as evaluations:
            return evaluations["timesteps"], evaluations["results"].mean(axis=1)
    except (OSError, EOFError, LookupError, ValueError, BadZipFile):
        return None


def evaluated_timesteps(folder: ModelDir) -> int:
    """Environment steps before the last evaluation of a run; 0 without one."""
    evaluations = read_evaluations(folder)
    return 0 if evaluations is None else int(evaluations[0][-1])


def final_return(folder: ModelDir) -> float:
    """Mean return of a run's last evaluation."""
    with np.load(folder.evaluations) as evaluations:
        return float(evaluations["results"][-1].mean())


def load_result(output: Path, env_id: str, timesteps: int) -> TaskResult | None:
    """The result of a task over all its finished runs; None if there are none.

    Args:
        output: Folder of the benchmark.
        env_id: The task.
        timesteps: Environment steps of a finished run.

    Raises:
        ModelDirError: The runs were evaluated at different steps.
    """
    runs = []
    for path in sorted(run_folder(output, env_id, 0).root.parent.glob("seed-*")):
        folder = ModelDir(path)
        if evaluated_timesteps(folder) < timesteps:
            continue
        with np.load(folder.evaluations) as evaluations:
            runs.append((evaluations["timesteps"], evaluations["results"].mean(axis=1)))
    if not runs:
        return None
    if any(steps[0] > 0 for steps, _ in runs):  # older runs were not evaluated before step 1
        runs = [(steps[steps > 0], means[steps > 0]) for steps, means in runs]
    times = [steps for steps, _ in runs]
    if not all(np.array_equal(each, times[0]) for each in times):
        raise ModelDirError(
            f"the runs of {env_id} in {output} were evaluated at different steps; give another "
            "folder with -o"
        )
    return TaskResult(env_id, times[0], np.array([means for _, means in runs]))
