"""Writes the settings of a trial as a preset."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.train.config.train_config import TrainConfig

_OF_EACH_RUN = ("env_id", "hyperparameters", "seed", "device", "init_sha256", "preset")


def write_preset(config: TrainConfig, comment: str, path: Path) -> None:
    """Write a configuration as a preset file, in RL Zoo's format.

    Args:
        config: The configuration; its seed and device are left out.
        comment: A line on where it comes from.
        path: The file.
    """
    values = config.to_dict()
    changed = {
        each.name: values[each.name]
        for each in fields(TrainConfig)
        if each.name not in _OF_EACH_RUN and values[each.name] != _default(each)
    }
    entry = {"n_timesteps": config.n_timesteps, **changed, **values["hyperparameters"]}
    atomic_write(path, f"# {comment}\n{to_yaml({config.env_id: entry})}")


def _default(field: Any) -> Any:
    return field.default if field.default is not MISSING else field.default_factory()
