"""Trains the missing runs of a benchmark.

Each run is a process, ``trpo-deploy train`` with its own model folder. A benchmark can therefore be
stopped and resumed, uses as many cores as it has processes, and several benchmarks on the same
folder, on one machine or on several, divide the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

from trpo_deploy.errors import ModelDirError, TrainingError
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.train.config.differences import different_settings
from trpo_deploy.train.config.load import load_config
from trpo_deploy.train.run.benchmark.comparison import write_comparison
from trpo_deploy.train.run.benchmark.report import write_report
from trpo_deploy.train.run.benchmark.results import (
    TaskResult,
    load_result,
    run_folder,
)
from trpo_deploy.train.run.benchmark.runs import EVAL_EPISODES, EVAL_EVERY, Run, Runs
from trpo_deploy.train.run.benchmark.variants import Variant
from trpo_deploy.train.run.jobs.lease import Leases
from trpo_deploy.train.run.jobs.loop import work

MUJOCO = tuple(
    f"{name}-{version}"
    for version in ("v4", "v5")
    for name in ("HalfCheetah", "Ant", "Hopper", "Walker2d", "Swimmer", "Humanoid")
)
"""The tasks of the MuJoCo benchmark."""
FIRST_SEED = 200
"""Presets are tuned on lower seeds; so are their comparisons with the default, by ``tune``."""
_MAY_DIFFER = ("seed", "device", "checkpoint_every")
"""Settings in which the runs of one task may differ; with others they are other experiments."""


def benchmark(
    env_ids: Sequence[str],
    seeds: int,
    timesteps: int,
    output: Path,
    processes: int,
    report: Callable[[str], None],
    variants: Sequence[Variant] = (Variant(),),
    first_seed: int = FIRST_SEED,
) -> list[TaskResult]:
    """Train the missing runs, evaluate them as the published tables do, write curves and tables.

    The curves and tables contain the tasks asked for and all others in the folder with runs of the
    same length.

    Args:
        env_ids: The tasks.
        seeds: Runs per task.
        timesteps: Environment steps per run.
        output: Folder for ``runs/``, ``curves.png`` and ``table.{md,csv,tex}``.
        processes: Number of runs at the same time.
        report: Called with a line of text before and after each run.
        variants: Settings to compare, :data:`~.variants.DEFAULT` first. The others have their runs
            and tables in ``variants/NAME/``, and ``comparison.{png,md,csv,tex}`` compares them.
        first_seed: Seed of a task's first run; the others follow.

    Returns:
        The results of the first variant.

    Raises:
        ModelDirError: A task has runs with other settings, such as another length or an earlier
            preset, so its row would mix two experiments.
        TrainingError: A run failed; all others were finished first.
    """
    for variant in variants:
        for env_id in env_ids:
            _check_settings(output, env_id, timesteps, variant)
    seed_range = range(first_seed, first_seed + seeds)
    runs = Runs(
        (
            _run(env_id, seed, timesteps, variant, output, named=len(variants) > 1)
            for seed, env_id, variant in product(seed_range, env_ids, variants)
        ),
        Leases(output / ".leases"),
        report,
    )
    work(runs, processes)
    failures = runs.failures
    try:
        results = {each.name: _report(each.folder(output), env_ids, timesteps) for each in variants}
    except ModelDirError as error:
        raise ModelDirError("; ".join([*failures, str(error)])) from error
    _compare(results, env_ids, output)
    if failures:
        raise TrainingError("; ".join(failures))
    return results[variants[0].name]


def _run(
    env_id: str, seed: int, timesteps: int, variant: Variant, output: Path, *, named: bool
) -> Run:
    name = f"{variant.name}: {env_id} seed {seed}" if named else f"{env_id} seed {seed}"
    folder = run_folder(variant.folder(output), env_id, seed)
    return Run(name, env_id, seed, timesteps, variant, folder)


def _report(output: Path, env_ids: Sequence[str], timesteps: int) -> list[TaskResult]:
    """Write the curves and tables of the runs in a folder; their results."""
    tasks = _tasks(output, env_ids, timesteps)
    found = [load_result(output, env_id, timesteps) for env_id in tasks]
    results = [result for result in found if result is not None]
    if results:
        write_report(results, output)
    return results


def _compare(
    results: Mapping[str, Sequence[TaskResult]], env_ids: Sequence[str], output: Path
) -> None:
    """Compare the variants on those of the tasks asked for that all of them have."""
    finished = {name: {each.env_id: each for each in found} for name, found in results.items()}
    common = [env_id for env_id in env_ids if all(env_id in found for found in finished.values())]
    if len(results) > 1 and common:
        ordered = {name: [found[env_id] for env_id in common] for name, found in finished.items()}
        write_comparison(ordered, output)


def _check_settings(output: Path, env_id: str, timesteps: int, variant: Variant) -> None:
    """Check that the existing runs of a task have the settings of new ones."""
    config = load_config(
        env_id,
        preset=variant.preset,
        settings=variant.settings,
        n_timesteps=timesteps,
        eval_every=EVAL_EVERY,
        eval_episodes=EVAL_EPISODES,
    )
    output = variant.folder(output)
    runs = run_folder(output, env_id, FIRST_SEED).root.parent
    for path in sorted(runs.glob("seed-*/config.yaml")):
        for name, existing, new in different_settings(read_yaml(path), config):
            if name in _MAY_DIFFER:
                continue
            hint = "use the same length with -n" if name == "n_timesteps" else "move them elsewhere"
            raise ModelDirError(
                f"the runs of {env_id} in {output} have {name}={existing!r} ({path.parent.name}), "
                f"but new ones would have {new!r}; {hint}, or give another folder with -o"
            )


def _tasks(output: Path, env_ids: Sequence[str], timesteps: int) -> list[str]:
    """The tasks asked for, then the others that have runs of the same length."""
    runs = [read_yaml(path) for path in sorted(output.glob("runs/*/seed-*/config.yaml"))]
    existing = [str(run.get("env_id")) for run in runs if run.get("n_timesteps") == timesteps]
    return list(dict.fromkeys([*env_ids, *existing]))
