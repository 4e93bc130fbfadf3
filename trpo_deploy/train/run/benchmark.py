"""Tasks times seeds: train what is missing, then learning curves and tables of all there is.

Each run is a process of its own, ``trpo-deploy train`` with its own model folder, so that a
benchmark that was stopped goes on where it was, and uses as many cores as it is given.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from scipy import stats

from trpo_deploy.errors import ModelDirError, TrainingError
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.config.load import load_config
from trpo_deploy.train.config.train_config import different_settings
from trpo_deploy.train.run.plots import benchmark_curves

MUJOCO = tuple(
    f"{name}-{version}"
    for version in ("v4", "v5")
    for name in ("HalfCheetah", "Ant", "Hopper", "Walker2d", "Swimmer")
)
FIRST_SEED = 100
"""Presets are chosen on seeds below it."""
EVAL_EVERY = 50_000
EVAL_EPISODES = 20
# What the runs of a row may differ by: all else would be another experiment.
_MAY_DIFFER = ("seed", "device", "checkpoint_every")


@dataclass(frozen=True, eq=False)
class TaskResult:
    """The evaluations of a task over its seeds."""

    env_id: str
    timesteps: Array
    """Of the evaluations, ``(evaluations,)``."""
    returns: Array
    """Means over the episodes of each evaluation, ``(seeds, evaluations)``."""

    @property
    def final(self) -> Array:
        """The last evaluation of each seed."""
        last: Array = self.returns[:, -1]
        return last

    @property
    def best(self) -> Array:
        """The best evaluation of each seed, as Tianshou's table reports."""
        best: Array = self.returns.max(axis=1)
        return best

    def iqm(self) -> tuple[float, float, float]:
        """Interquartile mean of the final returns, with its 95 % bootstrap interval.

        Agarwal et al. 2021 (https://arxiv.org/abs/2108.13264): the mean of the middle half,
        and percentiles of it over samples of the seeds with replacement.
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


def benchmark(
    env_ids: Sequence[str],
    seeds: int,
    timesteps: int,
    output: Path,
    processes: int,
    report: Callable[[str], None],
) -> list[TaskResult]:
    """Train what is missing, evaluate as the published tables do, write curves and tables.

    These have the tasks asked for, and all others in the folder that have runs of that length.

    Args:
        env_ids: the tasks.
        seeds: runs of each, with seeds from :data:`FIRST_SEED` on.
        timesteps: environment steps of a run.
        output: folder for ``runs/``, ``curves.png`` and ``table.{md,csv,tex}``.
        processes: runs at once.
        report: called with a line for each run that ends.

    Raises:
        ModelDirError: a task has runs with other settings than new ones would have, as of another
            length or an earlier preset, so that its row would mix them.
        TrainingError: a run failed; all others were finished first.
    """
    for env_id in env_ids:
        _check_settings(output, env_id, timesteps)
    runs = [(env_id, seed) for seed in range(FIRST_SEED, FIRST_SEED + seeds) for env_id in env_ids]
    failures: list[str] = []

    def train_one(run: tuple[str, int]) -> None:
        env_id, seed = run
        folder = _folder(output, env_id, seed)
        if _timesteps(folder) < timesteps:
            error = _train(env_id, seed, timesteps, folder)
            if error is not None:
                failures.append(f"{env_id} seed {seed}: {error}")
                return
        report(f"{env_id} seed {seed}: {_last_return(folder):.1f}")

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(train_one, runs))
    try:
        tasks = _tasks(output, env_ids, timesteps)
        found = [load_result(output, env_id, timesteps) for env_id in tasks]
    except ModelDirError as error:
        raise ModelDirError("; ".join([*failures, str(error)])) from error
    results = [result for result in found if result is not None]
    if results:
        write_report(results, output)
    if failures:
        raise TrainingError("; ".join(failures))
    return results


def _check_settings(output: Path, env_id: str, timesteps: int) -> None:
    """A row is one experiment over seeds: runs that are there have the settings of new ones."""
    config = load_config(
        env_id, n_timesteps=timesteps, eval_every=EVAL_EVERY, eval_episodes=EVAL_EPISODES
    )
    for path in sorted(_folder(output, env_id, FIRST_SEED).root.parent.glob("seed-*/config.yaml")):
        for name, there, new in different_settings(read_yaml(path), config):
            if name in _MAY_DIFFER:
                continue
            hint = "ask for as many with -n" if name == "n_timesteps" else "move them elsewhere"
            raise ModelDirError(
                f"the runs of {env_id} in {output} have {name}={there!r} ({path.parent.name}), and "
                f"new ones would have {new!r}; {hint}, or give another folder with -o"
            )


def _tasks(output: Path, env_ids: Sequence[str], timesteps: int) -> list[str]:
    """Those asked for first, and then those that are there already."""
    runs = [read_yaml(path) for path in sorted(output.glob("runs/*/seed-*/config.yaml"))]
    there = [str(run.get("env_id")) for run in runs if run.get("n_timesteps") == timesteps]
    return list(dict.fromkeys([*env_ids, *there]))


def _folder(output: Path, env_id: str, seed: int) -> ModelDir:
    return ModelDir(output / "runs" / env_id.replace(":", "_").replace("/", "_") / f"seed-{seed}")


def _train(env_id: str, seed: int, timesteps: int, folder: ModelDir) -> str | None:
    """One run in its own process; what it said if it failed."""
    command = [
        *(sys.executable, "-m", "trpo_deploy", "train", env_id, "-o", str(folder.root)),
        *("-n", str(timesteps), "--seed", str(seed)),
        *("--eval-every", str(EVAL_EVERY), "--eval-episodes", str(EVAL_EPISODES)),
        *("--checkpoint-every", str(EVAL_EVERY), "--no-export", "--no-progress"),
        *(["--resume"] if folder.config.is_file() else []),
    ]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own command
    if done.returncode == 0:
        return None
    *_warnings, reason = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
    return reason.removeprefix("error: ")


def _timesteps(folder: ModelDir) -> int:
    """How far the evaluations of a run have come; a resumed run writes a damaged file anew."""
    try:
        with np.load(folder.evaluations) as evaluations:
            return int(evaluations["timesteps"][-1])
    except (OSError, EOFError, LookupError, ValueError, BadZipFile):
        return 0


def _last_return(folder: ModelDir) -> float:
    with np.load(folder.evaluations) as evaluations:
        return float(evaluations["results"][-1].mean())


def load_result(output: Path, env_id: str, timesteps: int) -> TaskResult | None:
    """All finished runs of a task, whichever seeds; None if there is none."""
    times, returns = [], []
    for path in sorted(_folder(output, env_id, 0).root.parent.glob("seed-*")):
        folder = ModelDir(path)
        if _timesteps(folder) < timesteps:
            continue
        with np.load(folder.evaluations) as evaluations:
            times.append(evaluations["timesteps"])
            returns.append(evaluations["results"].mean(axis=1))
    if not returns:
        return None
    if not all(np.array_equal(each, times[0]) for each in times):
        raise ModelDirError(
            f"the runs of {env_id} in {output} were evaluated at different steps; give another "
            "folder with -o"
        )
    return TaskResult(env_id, times[0], np.array(returns))


def write_report(results: Sequence[TaskResult], output: Path) -> None:
    """Curves as a picture, and the table as Markdown, CSV and LaTeX."""
    curves = [(result.env_id, result.timesteps, result.returns) for result in results]
    atomic_write(output / "curves.png", benchmark_curves(curves))
    header = ["task", "seeds", "final mean", "final std", "best mean", "best std", "IQM", "95 % CI"]
    rows = [_row(result) for result in results]
    atomic_write(output / "table.md", markdown_table(header, rows))
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *rows])
    atomic_write(output / "table.csv", text.getvalue())
    atomic_write(output / "table.tex", latex_table(header, rows))


def _row(result: TaskResult) -> list[str]:
    middle, low, high = result.iqm()
    numbers = (
        result.final.mean(),
        result.final.std(),
        result.best.mean(),
        result.best.std(),
        middle,
    )
    interval = "" if np.isnan(low) else f"[{low:.0f}, {high:.0f}]"
    return [
        result.env_id,
        str(len(result.returns)),
        *(f"{number:.0f}" for number in numbers),
        interval,
    ]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for LaTeX's booktabs."""
    lines = [" & ".join(map(_latex, line)) for line in (header, *rows)]
    body = " \\\\\n".join(lines[1:])
    columns = "l" + "r" * (len(header) - 1)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{lines[0]} \\\\\n\\midrule\n{body} \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
    )


def _latex(text: str) -> str:
    return text.replace("%", r"\%").replace("_", r"\_")
