"""Whether the statistics that were found are those that the training had."""

from __future__ import annotations

from collections.abc import Mapping

from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.errors import ExportError
from trpo_deploy.sb3.training_record import TrainingRecord

_MISSING = "the policy was trained with VecNormalize, but its statistics were not found"
_UNEXPECTED = "there are statistics of VecNormalize, but the policy was trained without it"
_ADVICE: Mapping[str, str] = {
    _MISSING: "name them with trpo-deploy export --vecnormalize FILE (in Python: vecnormalize). If "
    "only rewards were normalised, export with --no-normalize-check (normalize_check=False)",
    _UNEXPECTED: "move them to another folder. To use them all the same, run trpo-deploy export "
    "with --no-normalize-check (in Python: normalize_check=False)",
}


def check_normalizer(
    record: TrainingRecord,
    statistics: VecNormalize | None,
    *,
    accept: bool,
    configured: bool = False,
) -> str:
    """Compare the statistics with what the model kept of its training.

    Args:
        record: What the model kept.
        statistics: The statistics, if any.
        accept: Whether the user accepts a contradiction.
        configured: Whether the run's configuration says that observations were normalised.

    Returns:
        The contradiction that was accepted; empty if there is none.

    Raises:
        ExportError: There is one that was not accepted.
    """
    problem = normalizer_problem(record, statistics, configured)
    if problem and not accept:
        raise ExportError(f"{problem}; {_ADVICE[problem]}")
    return problem


def normalizer_problem(
    record: TrainingRecord, statistics: VecNormalize | None, configured: bool
) -> str:
    """What contradicts the statistics, or their absence; empty if nothing does.

    A model keeps raw observations exactly if its environment had a ``VecNormalize``.

    That may have normalised rewards only, which its statistics tell. A resumed run may have kept no
    raw observation.
    """
    has_raw = record.last_original_observation is not None
    if statistics is None:
        return _MISSING if has_raw or configured else ""
    is_known = record.was_trained and not has_raw and not configured
    return _UNEXPECTED if is_known and statistics.norm_obs else ""
