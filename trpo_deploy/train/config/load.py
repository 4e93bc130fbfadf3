"""Builds a :class:`TrainConfig` from a preset, settings and flags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import gymnasium
from gymnasium.envs.registration import find_highest_version, parse_env_id

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.yaml import parse_yaml_value
from trpo_deploy.train.config.checks import allowed_types, check_type, unknown_name
from trpo_deploy.train.config.hyperparameters import (
    HYPERPARAMETER_TYPES,
    HYPERPARAMETERS,
    POLICY_ARGUMENTS,
)
from trpo_deploy.train.config.other_algorithms import check_not_of_another_algorithm
from trpo_deploy.train.config.preset_files import PRESET, read_preset
from trpo_deploy.train.config.python_literals import parse_literal
from trpo_deploy.train.config.train_config import FIELD_TYPES, TrainConfig

_FIELDS = {each.name for each in fields(TrainConfig)} - {"env_id", "hyperparameters", PRESET}

_UNSUPPORTED = {
    "vec_env_wrapper": "wrap single environments with env_wrapper",
    "preset": "use --preset",
}
"""Settings that a run does not support, most of them RL Zoo's, and what to do instead."""

_ENTRY = re.compile(r"(policy_kwargs|normalize)\.\w+")
"""One entry of a mapping, which ``--set`` can change without the others."""


def load_config(
    env_id: str,
    *,
    preset: str | None = None,
    settings: Iterable[str] = (),
    env_args: Iterable[str] = (),
    **flags: Any,
) -> TrainConfig:
    """Build a configuration from a preset, ``key=value`` settings and flags; later ones win.

    Args:
        env_id: The environment. An id without a version is the newest version, as in Gymnasium.
        preset: Name of a shipped preset, path of a YAML file in RL Zoo's format, or of a run's
            ``config.yaml``. None means the environment's shipped preset, or else the defaults.
        settings: ``key=value`` with a YAML value, for hyperparameters and for fields of
            :class:`TrainConfig`. ``policy_kwargs.key=value`` and ``normalize.key=value`` change
            one entry and keep the preset's others.
        env_args: ``key=value`` with a YAML value, for the environment.
        flags: Fields of :class:`TrainConfig`; None keeps the preset's value.

    Raises:
        ConfigError: A name is unknown, or a value is invalid.
    """
    env_id = _with_version(env_id)
    assigned = _parse_assignments(settings, "--set")
    entries = {name: assigned.pop(name) for name in tuple(assigned) if _ENTRY.fullmatch(name)}
    given = {name: value for name, value in flags.items() if value is not None}
    from_preset = read_preset(env_id, preset)
    origin = from_preset.pop(PRESET, None)
    values = _convert_rl_zoo_forms({**from_preset, **assigned, **given})
    _set_entries(values, entries)
    if values.get("init") != from_preset.get("init"):
        values.pop("init_sha256", None)  # of the preset's initial policy
    env_kwargs = values.pop("env_kwargs", None) or {}
    check_type("env_kwargs", env_kwargs, (dict,))
    _check_names(values)
    return TrainConfig(
        env_id,
        preset=origin,
        env_kwargs={**env_kwargs, **_parse_assignments(env_args, "--env-arg")},
        hyperparameters={name: value for name, value in values.items() if name not in _FIELDS},
        **{name: value for name, value in values.items() if name in _FIELDS},
    )


def _with_version(env_id: str) -> str:
    """Add the newest version to an id without one, so that its preset is found."""
    if ":" in env_id:
        return env_id
    try:
        namespace, name, version = parse_env_id(env_id)
    except gymnasium.error.Error:
        return env_id  # making the environment reports it
    newest = find_highest_version(namespace, name) if version is None else None
    return env_id if newest is None else f"{env_id}-v{newest}"


def _parse_assignments(texts: Iterable[str], flag: str) -> dict[str, Any]:
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError(f"{flag} {text!r}: expected key=value")
        values[name] = parse_yaml_value(value)
    return values


def _convert_rl_zoo_forms(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the forms that RL Zoo's files use: Python literals, ``!!float 1e6`` for a count."""
    converted = {name: _whole_number(name, value) for name, value in values.items()}
    for name in ("policy_kwargs", "normalize", "env_kwargs"):
        if isinstance(converted.get(name), str):
            converted[name] = parse_literal(name, converted[name])
    # RL Zoo's saved configurations have the arguments of VecNormalize separately.
    arguments = converted.pop("normalize_kwargs", None)
    if arguments and converted.get("normalize") is True:
        converted["normalize"] = arguments
    return converted


def _whole_number(name: str, value: Any) -> Any:
    hint = HYPERPARAMETER_TYPES.get(name) or FIELD_TYPES.get(name)
    whole = isinstance(value, float) and value.is_integer() and int in allowed_types(hint)
    return int(value) if whole else value


def _set_entries(values: dict[str, Any], entries: Mapping[str, Any]) -> None:
    """Set ``mapping.key`` to its value; the other keys of the mapping stay."""
    for name, value in entries.items():
        mapping, _, key = name.partition(".")
        present = values.get(mapping)
        values[mapping] = {**(present if isinstance(present, dict) else {}), key: value}


def _check_names(values: Mapping[str, Any]) -> None:
    for name in values:
        if name in _UNSUPPORTED:
            raise ConfigError(f"{name} is not supported; {_UNSUPPORTED[name]}")
        if name in POLICY_ARGUMENTS:
            raise ConfigError(
                f"{name} is an argument of the policy: use --set policy_kwargs.{name}=..."
            )
        if name not in _FIELDS and name not in HYPERPARAMETERS:
            check_not_of_another_algorithm(name)
            raise ConfigError(unknown_name(name, _FIELDS | HYPERPARAMETERS.keys()))
