"""A normaliser's running statistics, kept aside and put back."""

from __future__ import annotations

import copy
from typing import Any

from stable_baselines3.common.vec_env import VecNormalize


def copy_statistics(env: VecNormalize | None) -> dict[str, Any] | None:
    """What a rollout changes in a normaliser, or None if there is no normaliser."""
    if env is None:
        return None
    names = ("obs_rms", "ret_rms", "returns")
    return {name: copy.deepcopy(getattr(env, name)) for name in names if hasattr(env, name)}


def restore_statistics(env: VecNormalize | None, before: dict[str, Any] | None) -> None:
    """Put back what :func:`copy_statistics` returned."""
    if env is None or before is None:
        return
    for name in ("obs_rms", "ret_rms"):
        if name in before:
            _restore(getattr(env, name), before[name])
    env.returns = before["returns"]


def _restore(target: Any, source: Any) -> None:
    # In place: evaluation environments share these objects.
    if isinstance(source, dict):
        for key, part in source.items():
            _restore(target[key], part)
        return
    target.mean, target.var, target.count = source.mean, source.var, source.count
