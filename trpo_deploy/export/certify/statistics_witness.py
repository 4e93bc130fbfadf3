"""Witness: the number of observations that the normaliser's statistics are of.

``VecNormalize`` counts the observations of its training: one for each step, and one for each
environment at a reset by ``learn``. A model counts its steps. Statistics of another run, or of
another time of the same run, have the right shape and are often in the right range, but not this
number.
"""

from __future__ import annotations

from typing import Any

from trpo_deploy.export.certify.check import Check
from trpo_deploy.export.certify.trained_policy import TrainedPolicy

NAME = "witness: statistics"
_NEAR = 0.1
"""Part of the steps by which the numbers may differ; it hardly changes a mean."""
_RESETS = 4
"""Resets by ``learn`` that count even in a short training."""


def check_statistics(policy: TrainedPolicy) -> Check | None:
    """Compare the number of observations in the statistics with the steps of the training.

    A difference is not an error: RL Zoo plays its best model with the statistics of the end.

    Returns:
        An undecided check if they differ; ``None`` without statistics or a record of the training.
    """
    statistics, record = policy.reference.statistics, policy.training_record
    if statistics is None or not statistics.norm_obs or not record.was_trained:
        return None
    steps, n_envs = record.timesteps, record.n_envs or 1
    if not steps:
        return None
    rms: Any = statistics.obs_rms  # SB3 annotates one of its two forms only
    parts = list(rms.values()) if isinstance(rms, dict) else [rms]
    counts = [round(float(each.count)) for each in parts]
    slack = max(_NEAR * steps, _RESETS * n_envs)
    far = [count for count in counts if abs(count - steps) > slack]
    note = (
        f"the statistics are of {far[0]:,} observations, and the policy of {steps:,} training "
        "steps: they may be of another run or of another time of this one"
        if far
        else ""
    )
    return Check(
        NAME,
        None if far else True,
        f"observations that the statistics count, against the steps of the training; undecided if "
        f"they differ by more than {_NEAR:.0%} of the steps and {_RESETS} for each environment",
        {"observations": counts[0] if counts else 0, "steps": steps},
        note=note,
    )
