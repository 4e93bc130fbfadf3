"""Writes the policy and its statistics to a model folder."""

from __future__ import annotations

import io

from trpo_deploy.files.atomic import atomic_path, atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train.algorithm.trpo import TRPO


def save_policy(model: TRPO, folder: ModelDir) -> None:
    """Write ``policy.zip`` and, if the run normalises, ``vecnormalize.pkl``, each atomically.

    Raises:
        ModelDirError: A file cannot be written.
    """
    statistics = model.get_vec_normalize_env()
    if statistics is not None:
        with atomic_path(folder.vecnormalize) as path:
            statistics.save(str(path))
    buffer = io.BytesIO()
    model.save(buffer)
    atomic_write(folder.policy_zip, buffer.getvalue())
