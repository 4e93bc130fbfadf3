"""The results of a study: a table of its trials, and Optuna's plots."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
from matplotlib.axes import Axes
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots

from trpo_deploy.envs.returns import return_digits
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.train.run.benchmark.tables import write_tables
from trpo_deploy.train.run.tuning.study import StudyFolder
from trpo_deploy.train.run.tuning.trial import ERROR, RETURNS, SETTINGS

_HEADER = ("trial", "state", "return", "steps")


def write_report(study: optuna.Study, folder: StudyFolder) -> None:
    """Write the table of all trials and the plots."""
    write_tables(folder.table, trial_table(study.get_trials(deepcopy=False)))
    for name, plot in _plots(study):
        atomic_write(folder.plot(name), _png(plot))


def trial_table(trials: Sequence[FrozenTrial]) -> list[list[str]]:
    """A table of trials, its header first: the best ones first, then those without a return.

    A pruned trial has the mean return at its last report.
    """
    names = list(dict.fromkeys(name for trial in trials for name in _settings(trial)))
    ordered = sorted(trials, key=lambda trial: (_rank(trial), trial.number))
    rows = [
        [*_cells(trial), *(_settings(trial).get(name, "") for name in names)] for trial in ordered
    ]
    return [[*_HEADER, *names], *rows]


def _rank(trial: FrozenTrial) -> tuple[int, float]:
    states = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.PRUNED)
    place = states.index(trial.state) if trial.state in states else len(states)
    return place, -_last(trial) if trial.intermediate_values else 0.0


def _last(trial: FrozenTrial) -> float:
    step = trial.last_step
    return float("nan") if step is None else trial.intermediate_values[step]


def _cells(trial: FrozenTrial) -> list[str]:
    state = trial.state.name.lower()
    if ERROR in trial.user_attrs:
        state = f"failed: {trial.user_attrs[ERROR]}"
    if trial.last_step is None:
        return [str(trial.number), state, "", ""]
    value, returns = _last(trial), trial.user_attrs.get(RETURNS, [])
    text = f"{value:{return_digits(value, *returns)}}"
    if len(returns) > 1:
        text += f" ± {np.std(returns):{return_digits(value, *returns)}}"
    return [str(trial.number), state, text, str(trial.last_step)]


def _settings(trial: FrozenTrial) -> dict[str, str]:
    pairs = (text.partition("=") for text in trial.user_attrs.get(SETTINGS, ()))
    return {name: value for name, _, value in pairs}


def _plots(study: optuna.Study) -> list[tuple[str, Callable[[], Any]]]:
    """Optuna's plots by name; a study with one finished trial has nothing to compare."""
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    name = "mean return"
    found: list[tuple[str, Callable[[], Any]]] = [
        ("history", lambda: plots.plot_optimization_history(study, target_name=name)),
        ("trials", lambda: plots.plot_intermediate_values(study)),
    ]
    if len({trial.value for trial in completed}) > 1:
        evaluator = PedAnovaImportanceEvaluator()
        found += [
            ("importances", lambda: plots.plot_param_importances(study, evaluator=evaluator)),
            ("slice", lambda: plots.plot_slice(study, target_name=name)),
        ]
    return found


def _png(plot: Callable[[], Any]) -> bytes:
    # Optuna draws with pyplot, which would open a window on a desktop.
    import matplotlib.pyplot as plt

    backend = mpl.get_backend()
    plt.switch_backend("agg")
    try:
        with warnings.catch_warnings(), mpl.rc_context():
            warnings.simplefilter("ignore", ExperimentalWarning)
            axes = plot()
            first = axes if isinstance(axes, Axes) else np.ravel(axes)[0]
            buffer = io.BytesIO()
            first.figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
            plt.close(first.figure)
    finally:
        plt.switch_backend(backend)
    return buffer.getvalue()
