"""A study: its folder, what it tunes, and where Optuna keeps it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import MedianPruner

from trpo_deploy.errors import ConfigError, ModelDirError
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import read_yaml, to_yaml
from trpo_deploy.train.config.differences import different_settings
from trpo_deploy.train.config.load import load_config
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.run.benchmark.variants import Variant
from trpo_deploy.train.run.jobs.lease import Leases
from trpo_deploy.train.run.tuning.space import Space
from trpo_deploy.train.run.tuning.storage import check_storage, open_storage

N_EVALUATIONS = 10
"""Evaluations of a run, at each of which a trial may be pruned."""
EVAL_EPISODES = 10
_N_STARTUP_TRIALS = 5
"""Finished trials before one is pruned."""
_WARMUP = 0.2
"""Share of a run before its trial may be pruned."""
_OF_EACH_RUN = ("seed", "device", "eval_every", "eval_episodes", "checkpoint_every", "stop_return")
"""Settings that a study sets itself, or that do not change its results."""


@dataclass(frozen=True)
class Task:
    """What all trials of a study have in common."""

    env_id: str
    timesteps: int | None
    """Environment steps of a run; None for those of the preset."""
    base: Variant
    """Preset and settings that the search space does not change."""
    n_seeds: int
    """Runs of a trial, with seeds from 0 on."""

    def config(self, settings: list[str] | None = None) -> TrainConfig:
        """The configuration of a run with settings of a trial, ``key=value`` each.

        Raises:
            ConfigError: A setting is invalid.
        """
        return load_config(
            self.env_id,
            preset=self.base.preset,
            settings=[*self.base.settings, *(settings or ())],
            n_timesteps=self.timesteps,
        )


def trial_lease(number: int) -> str:
    """Name of the lease on a trial."""
    return f"trial-{number}"


class StudyFolder:
    """The folder of a study, which all processes that work on it share.

    Args:
        root: The folder.
        storage: Where Optuna keeps the study; None for a journal in the folder.
    """

    def __init__(self, root: Path, storage: str | None) -> None:
        self.root = root
        self.leases = Leases(root / ".leases")
        self._storage = storage

    @property
    def preset(self) -> Path:
        """The settings of the best trial, as a preset."""
        return self.root / "preset.yml"

    @property
    def table(self) -> Path:
        """The trials; with the suffixes ``.md``, ``.csv`` and ``.tex``."""
        return self.root / "trials"

    @property
    def comparison(self) -> Path:
        """The folder in which the best trial is compared with the default."""
        return self.root / "comparison"

    def plot(self, name: str) -> Path:
        """A plot of Optuna."""
        return self.root / f"{name}.png"

    def run(self, trial: int, seed: int) -> ModelDir:
        """The model folder of one run of a trial."""
        return ModelDir(self.root / "runs" / f"trial-{trial}" / f"seed-{seed}")

    def find(self) -> optuna.Study:
        """Open the study that the folder has.

        Raises:
            ModelDirError: The folder has none.
            ConfigError: The storage cannot be opened, or does not have the study.
        """
        if not self._description.is_file():
            raise ModelDirError(f"{self.root} holds no study; start one without --show")
        return self._load(read_yaml(self._description))

    def open(self, task: Task, space: Space) -> optuna.Study:
        """Open the study, or start it if the folder is new.

        Raises:
            ModelDirError: The folder holds something else, or cannot be written to.
            ConfigError: The study in the folder has another task or search space, or the storage
                cannot be opened or does not have the study.
        """
        if not self._description.is_file():
            self._check_is_new()
            if self._storage is not None:
                check_storage(self._storage)  # before the folder is made
            with self.leases.held("study"):
                if not self._description.is_file():
                    self._start(task, space)
        return self._continue(task, space)

    @property
    def _description(self) -> Path:
        return self.root / "study.yaml"

    @property
    def _journal(self) -> Path:
        return self.root / "journal.log"

    def _check_is_new(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise ModelDirError(f"{self.root} is a file; give a folder with -o")
        own = (".", self._journal.name)  # hidden files, and those of the journal
        found = list(self.root.iterdir()) if self.root.is_dir() else []
        foreign = any(not each.name.startswith(own) for each in found)
        if foreign and not self._description.is_file():  # another process may be starting it
            raise ModelDirError(
                f"{self.root} is not empty and holds no study; give another folder with -o"
            )

    def _start(self, task: Task, space: Space) -> None:
        storage = open_storage(self._storage or str(self._journal), new=True)
        name = f"{task.env_id}-{secrets.token_hex(4)}"
        optuna.create_study(storage=storage, study_name=name, direction="maximize")
        atomic_write(self._description, to_yaml({"study": name, **_description(task, space)}))

    def _continue(self, task: Task, space: Space) -> optuna.Study:
        saved = read_yaml(self._description)
        difference = _difference(saved, _description(task, space), task.config())
        if difference:
            raise ConfigError(
                f"the study in {self.root} is another one: {difference}; give the same settings "
                "to continue it, or another folder with -o"
            )
        study = self._load(saved)
        warmup = int(_WARMUP * task.config().n_timesteps)
        study.pruner = MedianPruner(_N_STARTUP_TRIALS, n_warmup_steps=warmup)
        return study

    def _load(self, saved: Mapping[str, Any]) -> optuna.Study:
        name = str(saved.get("study"))
        try:
            storage = open_storage(self._storage or str(self._journal), new=False)
            return optuna.load_study(study_name=name, storage=storage)
        except KeyError:
            raise ConfigError(
                f"the storage does not have the study {name} of {self.root}; give the --storage "
                "that it was started with"
            ) from None


def _description(task: Task, space: Space) -> dict[str, Any]:
    """What is the same for all processes that work on a study, as plain values."""
    return {
        "seeds": task.n_seeds,
        "space": dict(space.entries),
        "config": task.config().to_dict(),
    }


def _difference(
    saved: Mapping[str, Any], new: Mapping[str, Any], config: TrainConfig
) -> str | None:
    """In what a study differs from a new one; None if in nothing."""
    before = saved.get("config")
    for name, ours, theirs in different_settings(
        before if isinstance(before, Mapping) else {}, config
    ):
        if name not in _OF_EACH_RUN:
            return f"it has {name}={ours!r}, this command has {theirs!r}"
    if saved.get("seeds") != new["seeds"]:
        return f"it has {saved.get('seeds')} seeds for each trial, this command has {new['seeds']}"
    if saved.get("space") != new["space"]:
        spaces = saved.get("space"), new["space"]
        before, now = (each if isinstance(each, Mapping) else {} for each in spaces)
        name = next(key for key in {**before, **now} if before.get(key) != now.get(key))
        return (
            f"its search space has {name}: {before.get(name)!r}, that of this command "
            f"{now.get(name)!r}"
        )
    return None
