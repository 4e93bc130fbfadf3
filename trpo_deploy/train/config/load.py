"""From a preset, settings and flags to a :class:`TrainConfig`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import find_highest_version, parse_env_id

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.yaml import parse_yaml_value, read_yaml
from trpo_deploy.train.config.checks import allowed_types, check_kind, unknown_name
from trpo_deploy.train.config.python_literals import parse_literal
from trpo_deploy.train.config.train_config import (
    FIELD_TYPES,
    HYPERPARAMETER_TYPES,
    HYPERPARAMETERS,
    POLICY_ARGUMENTS,
    TrainConfig,
)

# What RL Zoo's presets may hold and a run here does not take.
_REFUSED = {
    "vec_env_wrapper": "wrap single environments with env_wrapper",
    "callback": "write a script that calls TRPO.learn(callback=...)",
}


# What YAML 1.1 takes for text is a number to people: 1e-3.
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


# One entry of a mapping: what else a preset has in it stays.
_ENTRY = re.compile(r"(policy_kwargs|normalize)\.\w+")


def _with_version(env_id: str) -> str:
    """Gymnasium takes an id without a version for the newest; its preset has to be found too."""
    if ":" in env_id:
        return env_id
    try:
        namespace, name, version = parse_env_id(env_id)
    except gymnasium.error.Error:
        return env_id  # the error comes when the environment is made
    newest = find_highest_version(namespace, name) if version is None else None
    return env_id if newest is None else f"{env_id}-v{newest}"


def load_config(
    env_id: str,
    *,
    preset: str | None = None,
    settings: Iterable[str] = (),
    env_args: Iterable[str] = (),
    **flags: Any,
) -> TrainConfig:
    """A configuration out of a preset, ``key=value`` settings and flags, later ones first.

    Args:
        env_id: the environment.
        preset: the name of a shipped preset, a YAML file in RL Zoo's form, or a run's
            ``config.yaml``. None takes the shipped preset of that environment if there is one,
            else the defaults.
        settings: ``key=value`` with a YAML value, for hyperparameters and for fields of
            :class:`TrainConfig`; ``policy_kwargs.key=value`` and ``normalize.key=value`` change one
            entry of what the preset has.
        env_args: ``key=value`` with a YAML value, for the environment.
        flags: fields of :class:`TrainConfig`; None leaves what the preset says.

    Raises:
        ConfigError: an unknown name, or a value that cannot be used.
    """
    env_id = _with_version(env_id)
    assigned = _assignments(settings, "--set")
    entries = {name: assigned.pop(name) for name in tuple(assigned) if _ENTRY.fullmatch(name)}
    values = _plain_values(
        {
            **_preset(env_id, preset),
            **assigned,
            **{name: value for name, value in flags.items() if value is not None},
        }
    )
    values |= _with_entries(values, entries)
    env_kwargs = values.pop("env_kwargs", None) or {}
    check_kind("env_kwargs", env_kwargs, (dict,))
    env_kwargs = {**env_kwargs, **_assignments(env_args, "--env-arg")}
    known = {each.name for each in fields(TrainConfig)} - {"env_id", "hyperparameters"}
    for name in values:
        if name in _REFUSED:
            raise ConfigError(f"{name} is not supported; {_REFUSED[name]}")
        if name in POLICY_ARGUMENTS:
            raise ConfigError(f"{name} is the policy's: --set policy_kwargs.{name}=...")
        if name not in known and name not in HYPERPARAMETERS:
            raise ConfigError(unknown_name(name, known | set(HYPERPARAMETERS)))
    chosen: dict[str, Any] = {name: value for name, value in values.items() if name in known}
    hyperparameters = {name: value for name, value in values.items() if name not in known}
    return TrainConfig(env_id, env_kwargs=env_kwargs, hyperparameters=hyperparameters, **chosen)


def _with_entries(values: Mapping[str, Any], entries: Mapping[str, Any]) -> dict[str, Any]:
    """The mappings of which ``mapping.key`` changes an entry, with all others that they have."""
    changed: dict[str, Any] = {}
    for name, value in entries.items():
        mapping, _, key = name.partition(".")
        present = changed.get(mapping, values.get(mapping))
        others = present if isinstance(present, dict) else {}
        changed[mapping] = {**others, key: _numbers(value)}
    return changed


def _assignments(texts: Iterable[str], flag: str) -> dict[str, Any]:
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError(f"{flag} {text!r}: expected key=value")
        parsed = parse_yaml_value(value)
        quoted = value.lstrip()[:1] in ("'", '"')  # text that looks like a number is meant
        values[name] = parsed if quoted else _number(name, parsed)
    return values


def preset_names() -> list[str]:
    """The environments that a preset is shipped for."""
    return sorted(_shipped())


def _shipped() -> dict[str, Any]:
    with resources.as_file(
        resources.files("trpo_deploy.train.config") / "presets" / "trpo.yml"
    ) as path:
        return read_yaml(path)


def _preset(env_id: str, preset: str | None) -> dict[str, Any]:
    if preset is None:
        return dict(_shipped().get(env_id, {}))
    if Path(preset).suffix in (".yml", ".yaml"):
        return _from_file(env_id, Path(preset))
    shipped = _shipped()
    if preset not in shipped:
        near = difflib.get_close_matches(preset, shipped, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(shipped)}."
        raise ConfigError(f"no preset {preset!r}; {hint} A file must end in .yml or .yaml")
    return dict(shipped[preset])


def _from_file(env_id: str, path: Path) -> dict[str, Any]:
    """An entry of a file in RL Zoo's form, or the configuration of an earlier run."""
    entries = read_yaml(path)
    if isinstance(entries.get("hyperparameters"), dict):
        if entries.get("env_id") != env_id:
            raise ConfigError(f"{path} is of a run on {entries.get('env_id')}, not on {env_id}")
        skipped = ("env_id", "hyperparameters", "versions")
        run = {name: value for name, value in entries.items() if name not in skipped}
        return {**run, **entries["hyperparameters"]}
    # RL Zoo's entry for every environment without one of its own.
    name = env_id if env_id in entries else "default"
    if name not in entries:
        raise ConfigError(f"{path} has no entry {env_id!r}; it has {', '.join(map(str, entries))}")
    entry = entries[name]
    if not isinstance(entry, dict):
        raise ConfigError(f"{path}: the entry {name!r} is no mapping")
    return dict(entry)


def _plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as people mean them: YAML takes 1e-3 for text, and RL Zoo writes Python in it."""
    plain = {name: _number(name, value) for name, value in values.items()}
    for name in ("policy_kwargs", "normalize", "env_kwargs"):
        if isinstance(plain.get(name), str):
            plain[name] = parse_literal(name, plain[name])
        if name in plain:
            plain[name] = _numbers(plain[name])
    # RL Zoo's saved configurations keep the arguments apart.
    arguments = plain.pop("normalize_kwargs", None)
    if arguments and plain.get("normalize") is True:
        plain["normalize"] = arguments
    return plain


def _numbers(value: Any) -> Any:
    """A value in which 1e-3 is a number, however deep it is."""
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    exponent = isinstance(value, str) and "e" in value.lower() and _NUMBER.fullmatch(value)
    return float(value) if exponent else value


def _number(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            return value
        value = float(value)
    whole = isinstance(value, float) and value.is_integer()
    hint = HYPERPARAMETER_TYPES.get(name) or FIELD_TYPES.get(name)
    return int(value) if whole and int in allowed_types(hint) else value
