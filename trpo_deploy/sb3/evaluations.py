"""Returns of a run's evaluations, from the file of SB3's ``EvalCallback``."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from trpo_deploy.errors import ExportError
from trpo_deploy.spec.spaces import Array


def read_evaluations(path: Path, timesteps: int) -> dict[int, Array]:
    """Returns of the evaluation at a policy's timesteps, else of those just before and after.

    Evaluations further away than a tenth of the timesteps are of other policies.

    Returns:
        Returns of each evaluation, ``(episodes,)``, by its timesteps.

    Raises:
        ExportError: The file is not a file of evaluations.
    """
    try:
        with np.load(path) as file:
            steps, results = file["timesteps"].astype(np.int64), file["results"].astype(np.float64)
        if steps.ndim != 1 or results.ndim != 2 or len(steps) != len(results):
            raise ValueError(f"its arrays have the shapes {steps.shape} and {results.shape}")
    except (OSError, EOFError, BadZipFile, ValueError, LookupError, TypeError) as error:
        raise ExportError(f"{path} is not a file of evaluations ({error})") from error
    usable = np.isfinite(results).all(axis=1) & (abs(steps - timesteps) <= timesteps / 10)
    found = dict(zip(steps[usable].tolist(), results[usable], strict=True))
    before = max((at for at in found if at <= timesteps), default=None)
    after = min((at for at in found if at >= timesteps), default=None)
    return {at: found[at] for at in (before, after) if at is not None}
