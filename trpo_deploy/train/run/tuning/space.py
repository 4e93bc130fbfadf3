"""The search space: which settings a study changes, and to which values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from optuna.trial import BaseTrial

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.train.config.hyperparameters import HYPERPARAMETERS
from trpo_deploy.train.run.tuning.dimension import Dimension, read_dimension, value_text

_OTHERS = ("env_wrapper", "frame_stack", "n_envs", "normalize", "policy")
"""Settings that can be searched beside the hyperparameters."""


@dataclass(frozen=True)
class Space:
    """A search space."""

    entries: Mapping[str, Any]
    """The entries as written."""
    dimensions: tuple[Dimension, ...]

    def suggest(self, trial: BaseTrial) -> list[str]:
        """Settings for a trial, ``key=value`` each; for the same trial always the same ones."""
        return [f"{each.name}={value_text(each.suggest(trial))}" for each in self.dimensions]


def read_space(path: Path | None, check: Callable[[list[str]], object]) -> Space:
    """Read a search space.

    Args:
        path: A YAML file; None for the space of RL Zoo.
        check: Called with settings, ``key=value`` each; raises :class:`ConfigError` if a training
            would not accept them.

    Raises:
        ConfigError: The file cannot be read, or contains a setting or value that a training would
            not accept.
    """
    if path is None:
        with resources.as_file(resources.files(__package__) / "rl_zoo.yml") as shipped:
            entries = read_yaml(shipped)
    else:
        entries = read_yaml(path)
    try:
        if not entries:
            raise ConfigError("expected at least one setting")
        return Space(entries, tuple(_dimension(*entry, check) for entry in entries.items()))
    except ConfigError as error:
        raise ConfigError(f"{path or 'the search space of RL Zoo'}: {error}") from error


def _dimension(name: Any, entry: Any, check: Callable[[list[str]], object]) -> Dimension:
    dimension = read_dimension(str(name), entry)
    for value in dimension.examples():
        check([f"{name}={value_text(value)}"])
    if str(name).partition(".")[0] not in (*HYPERPARAMETERS, *_OTHERS):
        raise ConfigError(
            f"{name} cannot be searched: the trials of a study differ in hyperparameters and in "
            f"{', '.join(_OTHERS)} only; give one value for all of them with --set {name}=..."
        )
    return dimension
