"""Reads presets: shipped ones, files in RL Zoo's format, and the ``config.yaml`` of a run."""

from __future__ import annotations

import difflib
import re
from importlib import resources
from pathlib import Path
from typing import Any

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.yaml import read_yaml

PRESET = "preset"
"""Field of a run's configuration: the preset that its settings come from."""
VERSIONS = "versions"
"""Key in a run's ``config.yaml``: the packages that it was trained with."""
RUN_ID = "torchrun"
"""Key in a run's ``config.yaml``: which start of ``torchrun`` made the run."""


def preset_of_other_version(env_id: str) -> str | None:
    """The newest version of an environment for which a preset is shipped; ``None`` without one."""
    name = re.sub(r"-v\d+$", "-v", env_id)
    versions = [each for each in _shipped() if re.fullmatch(re.escape(name) + r"\d+", each)]
    return max(versions, key=lambda each: int(each.rpartition("-v")[2]), default=None)


def preset_names() -> list[str]:
    """The environments for which a preset is shipped."""
    return sorted(_shipped())


def read_preset(env_id: str, preset: str | None) -> dict[str, Any]:
    """The settings of a preset, as they are written, and its name under :data:`PRESET`.

    Args:
        env_id: The environment.
        preset: Name of a shipped preset, path of a file, or None for the shipped preset of the
            environment if there is one.

    Raises:
        ConfigError: The preset does not exist, or is for another environment.
    """
    shipped = _shipped()
    if preset is None and env_id not in shipped:
        return {}
    preset = preset or env_id
    if Path(preset).suffix in (".yml", ".yaml"):
        return _from_file(env_id, Path(preset))
    if preset not in shipped:
        near = difflib.get_close_matches(preset, shipped, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(shipped)}."
        raise ConfigError(f"no preset {preset!r}; {hint} A file must end in .yml or .yaml")
    return {**shipped[preset], PRESET: preset}


def _shipped() -> dict[str, Any]:
    with resources.as_file(
        resources.files("trpo_deploy.train.config") / "presets" / "trpo.yml"
    ) as path:
        return read_yaml(path)


def _from_file(env_id: str, path: Path) -> dict[str, Any]:
    entries = read_yaml(path)
    if isinstance(entries.get("hyperparameters"), dict):
        return _from_run(env_id, path, entries)
    # RL Zoo's 'default' is for all environments without their own entry.
    name = env_id if env_id in entries else "default"
    if name not in entries:
        raise ConfigError(f"{path} has no entry {env_id!r}; it has {', '.join(map(str, entries))}")
    entry = entries[name]
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: the entry {name!r} is not a mapping")
    return {**entry, PRESET: path.name}


def _from_run(env_id: str, path: Path, config: dict[str, Any]) -> dict[str, Any]:
    if config.get("env_id") != env_id:
        raise ConfigError(f"{path} is of a run on {config.get('env_id')}, not on {env_id}")
    skipped = ("env_id", "hyperparameters", VERSIONS, RUN_ID)
    settings = {name: value for name, value in config.items() if name not in skipped}
    origin = config.get(PRESET) or path.name
    return {**settings, **config["hyperparameters"], PRESET: origin}
