"""Whether the statistics that were found are those that the training had."""

from __future__ import annotations

from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.errors import ExportError
from trpo_deploy.sb3.training_record import TrainingRecord


def check_normalizer(
    record: TrainingRecord, statistics: VecNormalize | None, *, configured: bool = False
) -> None:
    """Compare the statistics with what the model kept of its training.

    A model keeps raw observations exactly if its environment had a ``VecNormalize``. That may
    have normalised rewards only, which its statistics tell.

    Args:
        record: What the model kept.
        statistics: The statistics, if any.
        configured: Whether the run's configuration says that observations were normalised. A
            resumed run may have kept no raw observation.

    Raises:
        ExportError: There are no statistics, but the training had a normaliser; or it had none,
            and the statistics would normalise observations.
    """
    if statistics is None and record.last_original_observation is not None:
        raise ExportError(
            "the policy was trained with VecNormalize, but there are no statistics; trpo-deploy "
            "export takes them with --vecnormalize FILE (in Python: vecnormalize), or none with "
            "--no-normalize-check (in Python: normalize_check=False) if only rewards were "
            "normalised"
        )
    if not record.was_trained or record.last_original_observation is not None or configured:
        return
    if statistics is not None and statistics.norm_obs:
        raise ExportError(
            "there are statistics of VecNormalize, but the policy was trained without it; move "
            "them to another folder, or have trpo-deploy export use them all the same with "
            "--no-normalize-check (in Python: normalize_check=False)"
        )
