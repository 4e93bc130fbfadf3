"""What a training run is made of, from a preset and the command line to one frozen object."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from trpo_deploy.errors import ConfigError
from trpo_deploy.train.trpo import TRPO
from trpo_deploy.yaml_file import parse_yaml_value, read_yaml

# What the algorithm is given apart from its hyperparameters.
_NOT_HYPERPARAMETERS = {
    "self",
    "policy",
    "env",
    "seed",
    "device",
    "verbose",
    "tensorboard_log",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
    "_init_setup_model",
}
_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(TRPO.__init__).parameters.items()
    if name not in _NOT_HYPERPARAMETERS
}
HYPERPARAMETERS = tuple(_DEFAULTS)
"""What :class:`TRPO` can be told by a preset or ``--set``."""
_WHOLE = {name for name, default in _DEFAULTS.items() if type(default) is int} | {
    "n_timesteps",
    "n_envs",
    "seed",
    "eval_every",
    "eval_episodes",
}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that it takes to run a training again."""

    env_id: str
    """A Gymnasium id, or ``module:Id`` for one that a module registers."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for making the environment."""
    policy: str = "MlpPolicy"
    """The policy's class by its alias."""
    n_timesteps: int = 1_000_000
    """Environment steps to train for, over all environments."""
    n_envs: int = 1
    """Environments side by side."""
    normalize: bool | Mapping[str, Any] = False
    """Normalise observations and returns; a mapping gives ``VecNormalize``'s arguments."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of :class:`TRPO`."""
    seed: int = 0
    """Of everything that is random. Evaluation episodes have seeds of their own."""
    device: str = "auto"
    """Where the networks live: ``auto``, ``cpu`` or ``cuda``."""
    eval_every: int = 10_000
    """Environment steps between two evaluations."""
    eval_episodes: int = 20
    """Deterministic episodes of an evaluation."""
    stop_return: float | None = None
    """End the run once the mean evaluation return is at least this."""

    def __post_init__(self) -> None:
        for name in ("n_timesteps", "n_envs", "eval_every", "eval_episodes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}={value!r}: expected a whole number above zero")
        if self.policy not in TRPO.policy_aliases:
            raise ConfigError(
                f"policy={self.policy!r}: expected one of {', '.join(TRPO.policy_aliases)}"
            )
        for name, value in self.hyperparameters.items():
            if name not in HYPERPARAMETERS:
                raise ConfigError(unknown_name(name, HYPERPARAMETERS))
            _check_type(name, value)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they go into ``config.yaml``."""
        return asdict(self)


def _check_type(name: str, value: Any) -> None:
    """A hyperparameter has the type of its default, or a mistake shows hours later."""
    kinds: dict[type, tuple[tuple[type, ...], str]] = {
        bool: ((bool,), "true or false"),
        int: ((int,), "a whole number"),
        float: ((int, float), "a number"),
    }
    default = type(_DEFAULTS[name])
    if default not in kinds:
        return
    types, words = kinds[default]
    # A bool is an int to Python, and a mistake to people.
    if not isinstance(value, types) or (isinstance(value, bool) and default is not bool):
        raise ConfigError(f"{name}={value!r}: expected {words}")


def unknown_name(name: str, known: Iterable[str]) -> str:
    """A message for a name that is not known, with the nearest one that is."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
    return f"unknown setting {name!r}; {hint}"


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
        preset: the name of a shipped preset or a YAML file in RL Zoo's form. None takes the
            shipped preset of that environment if there is one, else the defaults.
        settings: ``key=value`` with a YAML value, for hyperparameters and for fields of
            :class:`TrainConfig`.
        env_args: ``key=value`` with a YAML value, for the environment.
        flags: fields of :class:`TrainConfig`; None leaves what the preset says.

    Raises:
        ConfigError: an unknown name, or a value that cannot be used.
    """
    values = {
        **_preset(env_id, preset),
        **_assignments(settings, "--set"),
        **{name: value for name, value in flags.items() if value is not None},
    }
    env_kwargs = {**values.pop("env_kwargs", {}), **_assignments(env_args, "--env-arg")}
    known = {each.name for each in fields(TrainConfig)} - {"env_id", "hyperparameters"}
    for name in values:
        if name not in known and name not in HYPERPARAMETERS:
            raise ConfigError(unknown_name(name, known | set(HYPERPARAMETERS)))
    config = TrainConfig(
        env_id=env_id,
        env_kwargs=env_kwargs,
        hyperparameters={n: v for n, v in values.items() if n not in known},
    )
    chosen = {name: value for name, value in values.items() if name in known}
    return replace(config, **chosen)


def _assignments(texts: Iterable[str], flag: str) -> dict[str, Any]:
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ConfigError(f"{flag} {text!r}: expected key=value")
        values[name] = parse_yaml_value(value)
    return _numbers(values)


def preset_names() -> list[str]:
    """The environments that a preset is shipped for."""
    return sorted(_shipped())


def _shipped() -> dict[str, Any]:
    with resources.as_file(resources.files("trpo_deploy.train") / "presets" / "trpo.yml") as path:
        return read_yaml(path)


def _preset(env_id: str, preset: str | None) -> dict[str, Any]:
    if preset is None:
        return _numbers(_shipped().get(env_id, {}))
    path = Path(preset)
    if path.suffix in (".yml", ".yaml"):
        entries = read_yaml(path)
        if env_id not in entries:
            raise ConfigError(
                f"{path} has no entry {env_id!r}; it has {', '.join(map(str, entries))}"
            )
        entry = entries[env_id]
        if not isinstance(entry, dict):
            raise ConfigError(f"{path}: the entry {env_id!r} is no mapping")
        return _numbers(entry)
    shipped = _shipped()
    if preset not in shipped:
        near = difflib.get_close_matches(preset, shipped, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there is {', '.join(shipped)}"
        raise ConfigError(f"no preset {preset!r}; {hint} A file must end in .yml or .yaml")
    return _numbers(shipped[preset])


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as people mean them: YAML takes 1e-3 for text and 1e6 for a float."""
    return {name: _number(name, value) for name, value in values.items()}


def _number(name: str, value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole and name in _WHOLE else value
