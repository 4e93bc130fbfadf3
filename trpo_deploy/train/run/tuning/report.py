"""The results of a study: a table of its trials, and Optuna's plots."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots

from trpo_deploy.envs.returns import return_digits
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.train.run.benchmark.tables import write_tables
from trpo_deploy.train.run.tuning.study import StudyFolder
from trpo_deploy.train.run.tuning.trial import RETURNS, SETTINGS

_HEADER = ("trial", "state", "return", "steps")
_VALUE = "mean return"
_MAX_LEGEND = 10


def write_report(study: optuna.Study, folder: StudyFolder) -> None:
    """Write the table of all trials and the plots."""
    write_tables(folder.table, trial_table(study.get_trials(deepcopy=False)))
    for name, plot in _plots(study).items():
        atomic_write(folder.plot(name), _png(plot))


def trial_table(trials: Sequence[FrozenTrial], stopped: Collection[int] = ()) -> list[list[str]]:
    """A table of trials, its header first: the best ones first, then those without a return.

    A pruned trial has the mean return at its last report.

    Args:
        trials: The trials.
        stopped: Numbers of those that wait for a process to continue them.
    """
    names = list(dict.fromkeys(name for trial in trials for name in _settings(trial)))
    ordered = sorted(trials, key=lambda trial: (_rank(trial), trial.number))
    rows = [
        [
            *_cells(trial, trial.number in stopped),
            *(_settings(trial).get(name, "") for name in names),
        ]
        for trial in ordered
    ]
    return [[*_HEADER, *names], *rows]


def _rank(trial: FrozenTrial) -> tuple[int, float]:
    states = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.PRUNED)
    place = states.index(trial.state) if trial.state in states else len(states)
    value = _value(trial)
    return place, 0.0 if value is None else -value


def _value(trial: FrozenTrial) -> float | None:
    """The mean return, that of the last report until the trial ends."""
    step = trial.last_step
    reported = None if step is None else trial.intermediate_values[step]
    return reported if trial.value is None else trial.value


def _cells(trial: FrozenTrial, stopped: bool) -> list[str]:
    state, value = "stopped" if stopped else trial.state.name.lower(), _value(trial)
    if trial.state == TrialState.FAIL:
        state = "failed"
    if value is None:
        return [str(trial.number), state, "", ""]
    returns = trial.user_attrs.get(RETURNS, [])
    digits = return_digits(value, *returns)
    spread = f" ± {np.std(returns):{digits}}" if len(returns) > 1 else ""
    return [str(trial.number), state, f"{value:{digits}}{spread}", str(trial.last_step)]


def _settings(trial: FrozenTrial) -> dict[str, str]:
    pairs = (text.partition("=") for text in trial.user_attrs.get(SETTINGS, ()))
    return {name: value for name, _, value in pairs}


def _plots(study: optuna.Study) -> dict[str, Callable[[], Any]]:
    """Optuna's plots by name; those that compare settings need trials with other returns."""
    completed = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found: dict[str, Callable[[], Any]] = {
        "history": lambda: plots.plot_optimization_history(study, target_name=_VALUE),
        "trials": lambda: plots.plot_intermediate_values(study),
    }
    if len({trial.value for trial in completed}) > 1:
        evaluator = PedAnovaImportanceEvaluator()  # the default one needs scikit-learn
        found["importances"] = lambda: plots.plot_param_importances(
            study, evaluator=evaluator, target_name=_VALUE
        )
        found["slice"] = lambda: plots.plot_slice(study, target_name=_VALUE)
    return found


def _png(plot: Callable[[], Any]) -> bytes:
    # Optuna draws with pyplot, which would open a window on a desktop.
    from matplotlib import pyplot

    backend = mpl.get_backend()
    pyplot.switch_backend("agg")
    try:
        with warnings.catch_warnings(), mpl.rc_context():
            # Optuna's plots are experimental, and warn about settings with one value.
            warnings.simplefilter("ignore")
            axes = [each for each in np.ravel(plot()) if isinstance(each, Axes)]
            _tidy(axes)
            buffer = io.BytesIO()
            pyplot.gcf().savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    finally:
        pyplot.close("all")
        pyplot.switch_backend(backend)
    return buffer.getvalue()


def _tidy(axes: Sequence[Axes]) -> None:
    """Keep the labels of a plot from overlapping, and name what Optuna does not know."""
    for each in axes:
        if each.get_xlabel() == "Trial":
            each.xaxis.set_major_locator(MaxNLocator(integer=True))
        if each.get_ylabel() == "Intermediate Value":
            each.set_ylabel(_VALUE)
        legend = each.get_legend()
        if legend is not None and len(legend.get_texts()) > _MAX_LEGEND:
            legend.remove()
        if len(axes) > 1:
            # The labels between powers of ten too: a narrow range has no others.
            each.tick_params(axis="x", which="both", rotation=90)
            each.set_xlabel(each.get_xlabel().replace(".", ".\n"))
