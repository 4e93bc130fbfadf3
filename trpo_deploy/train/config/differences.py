"""Compares the settings of a run with those of an earlier run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from trpo_deploy.train.config.hyperparameters import HYPERPARAMETERS
from trpo_deploy.train.config.preset_files import PRESET, RUN_ID, VERSIONS
from trpo_deploy.train.config.train_config import TrainConfig


def different_settings(
    saved: Mapping[str, Any], config: TrainConfig
) -> Iterator[tuple[str, Any, Any]]:
    """Find the settings in which two runs differ; an omitted hyperparameter has its default.

    Args:
        saved: Content of the earlier run's ``config.yaml``.
        config: Configuration to compare with.

    Yields:
        Name, earlier value and new value, ``env_id`` first and then by name.
    """
    before, now = _flat(saved), _flat(config.to_dict())
    for name in sorted(before.keys() | now.keys(), key=lambda name: (name != "env_id", name)):
        ours, theirs = before.get(name), now.get(name)
        # NaN, as an argument of the environment, is not equal to itself but has the same repr.
        if ours != theirs and repr(ours) != repr(theirs):
            yield name, ours, theirs


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """All settings on one level, without what tells their origin."""
    hyperparameters = config.get("hyperparameters") or {}
    others = dict.fromkeys(("hyperparameters", "init_sha256", PRESET, VERSIONS, RUN_ID))
    return {**HYPERPARAMETERS, **config, **hyperparameters, **others}
