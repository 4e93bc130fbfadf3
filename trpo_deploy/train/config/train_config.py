"""What a training run is made of, from a preset and the command line to one frozen object."""

from __future__ import annotations

import difflib
import inspect
import math
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import gymnasium
import numpy as np
from gymnasium.envs.registration import find_highest_version, parse_env_id
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.envs.wrappers import wrapper_classes, wrapper_list
from trpo_deploy.errors import ConfigError
from trpo_deploy.files.yaml import parse_yaml_value, read_yaml
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.config.class_names import linear_schedule, policy_arguments
from trpo_deploy.train.config.python_literals import parse_literal

VEC_ENVS = ("auto", "sync", "subproc", "envpool")
"""How environments can run side by side."""

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
HYPERPARAMETERS = {
    name: parameter.default
    for name, parameter in inspect.signature(TRPO.__init__).parameters.items()
    if name not in _NOT_HYPERPARAMETERS
}
"""What :class:`TRPO` can be told by a preset or ``--set``, with what it takes if it is not."""

# What RL Zoo's presets may hold and a run here does not take.
_REFUSED = {
    "vec_env_wrapper": "wrap single environments with env_wrapper",
    "callback": "write a script that calls TRPO.learn(callback=...)",
}
_RANGES: dict[str, tuple[float, float]] = {
    "gamma": (0.0, 1.0),
    "gae_lambda": (0.0, 1.0),
    "target_kl": (0.0, math.inf),
    "target_kl_end": (0.0, math.inf),
    "cg_damping": (0.0, math.inf),
    "line_search_shrinking_factor": (0.0, 1.0),
    "learning_rate_end": (0.0, math.inf),
    "critic_max_grad_norm": (0.0, math.inf),
    "n_critic_updates": (0, math.inf),
    "seed": (0, 2**32 - 1),
    "sde_sample_freq": (-1, math.inf),
    "clip_obs": (0.0, math.inf),
    "clip_reward": (0.0, math.inf),
    "epsilon": (0.0, math.inf),
}
_ENDS_LEFT_OUT = ("line_search_shrinking_factor",)
# What YAML 1.1 takes for text is a number to people: 1e-3.
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
# One entry of a mapping: what else a preset has in it stays.
_ENTRY = re.compile(r"(policy_kwargs|normalize)\.\w+")
_MAY_BE_BELOW_ONE = ("sde_sample_freq", "seed", "n_critic_updates")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that it takes to run a training again."""

    env_id: str
    """A Gymnasium id, or ``module:Id`` for one that a module registers."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments for making the environment."""
    env_wrapper: Any = None
    """Wrappers by dotted name: one, a list, or mappings of a name to its arguments."""
    frame_stack: int | None = None
    """How many observations in a row the policy sees as one."""
    vec_env: str = "auto"
    """How environments run side by side: one of :data:`VEC_ENVS`."""
    policy: str = "MlpPolicy"
    """The policy's class by its alias."""
    n_timesteps: int = 1_000_000
    """Environment steps to train for, over all environments."""
    n_envs: int = 1
    """Environments side by side."""
    normalize: bool | Mapping[str, Any] = False
    """Normalise observations and returns; a mapping gives ``VecNormalize``'s arguments."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of :class:`TRPO`: plain values, classes and schedules by name."""
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
    checkpoint_every: int = 10_000
    """Environment steps between two checkpoints."""

    def __post_init__(self) -> None:
        for each in fields(self):
            _check_type(each.name, getattr(self, each.name), _FIELD_TYPES[each.name])
        for name, value in self.hyperparameters.items():
            if name not in HYPERPARAMETERS:
                raise ConfigError(unknown_name(name, HYPERPARAMETERS))
            if name == "learning_rate":
                linear_schedule(name, value)
            else:
                _check_type(name, value, _HYPERPARAMETER_TYPES[name])
        _check_choice("vec_env", self.vec_env, VEC_ENVS)
        _check_choice("policy", self.policy, TRPO.policy_aliases)
        wrapper_list(self.env_wrapper)
        policy_kwargs = self.hyperparameters.get("policy_kwargs") or {}
        policy_class = TRPO.policy_aliases[self.policy]
        _check_arguments("policy_kwargs", policy_kwargs, policy_class, _POLICY_IS_GIVEN)
        policy_arguments(policy_kwargs)
        if isinstance(self.normalize, Mapping):
            _check_arguments("normalize", self.normalize, VecNormalize, ("self", "venv"))
            hints = get_type_hints(VecNormalize.__init__)
            for name, value in self.normalize.items():
                _check_kind(f"normalize: {name}", value, _kinds(hints[name]))
                _check_range(name, value)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they go into ``config.yaml``."""
        return dict(_plain(asdict(self)))

    @property
    def own_classes(self) -> tuple[str, ...]:
        """The policy's classes that are the user's, and all wrappers: ``package.module:Class``."""
        arguments = policy_arguments(self.hyperparameters.get("policy_kwargs") or {})
        classes = [value for value in arguments.values() if isinstance(value, type)]
        libraries = ("torch.", "stable_baselines3.")
        own = [each for each in classes if not each.__module__.startswith(libraries)]
        named = tuple(f"{each.__module__}:{each.__qualname__}" for each in own)
        return named + wrapper_classes(self.env_wrapper)

    def algorithm_arguments(self) -> dict[str, Any]:
        """The hyperparameters as :class:`TRPO` takes them."""
        arguments = dict(self.hyperparameters)
        if "learning_rate" in arguments:
            arguments["learning_rate"] = linear_schedule(
                "learning_rate", arguments["learning_rate"]
            )
        if arguments.get("policy_kwargs"):
            arguments["policy_kwargs"] = policy_arguments(arguments["policy_kwargs"])
        return arguments


def _plain(value: Any) -> Any:
    """Only what YAML has a form for."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


_FIELD_TYPES = get_type_hints(TrainConfig)
_HYPERPARAMETER_TYPES = {
    name: hint for name, hint in get_type_hints(TRPO.__init__).items() if name in HYPERPARAMETERS
}
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a mapping",
    type(None): "nothing",
}


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The plain types that a hint allows; mappings of all sorts are ``dict``."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    origins = [get_origin(member) or member for member in members]
    return tuple(dict if origin is Mapping else origin for origin in origins)


def _check_type(name: str, value: Any, hint: Any) -> None:
    """A value has the type of its annotation, or a mistake shows hours later."""
    if get_origin(hint) is Literal:
        _check_choice(name, value, get_args(hint))
        return
    kinds = _kinds(hint)
    _check_kind(name, value, kinds)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if not math.isfinite(value):
        raise ConfigError(f"{name}={value!r}: expected a finite number")
    if type(value) is int and name not in _MAY_BE_BELOW_ONE and int in kinds and value < 1:
        raise ConfigError(f"{name}={value!r}: expected a whole number above zero")
    _check_range(name, value)


def _check_range(name: str, value: Any) -> None:
    if name not in _RANGES:
        return
    low, high = _RANGES[name]
    if name in _ENDS_LEFT_OUT and not low < value < high:
        raise ConfigError(f"{name}={value!r}: expected a number between {low:g} and {high:g}")
    if not low <= value <= high:
        expected = f"a number from {low:g}" + ("" if math.isinf(high) else f" to {high:.10g}")
        raise ConfigError(f"{name}={value!r}: expected {expected}")


def _check_kind(name: str, value: Any, kinds: tuple[Any, ...]) -> None:
    # A bool is an int to Python, and a mistake to people; a whole number is a number to both.
    fits = type(value) in kinds or (float in kinds and type(value) is int)
    if Any not in kinds and not fits:
        expected = " or ".join(_WORDS[kind] for kind in kinds if kind in _WORDS)
        raise ConfigError(f"{name}={value!r}: expected {expected}")


_POLICY_IS_GIVEN = ("self", "observation_space", "action_space", "lr_schedule", "use_sde")
"""What the algorithm gives to a policy by itself."""
_POLICY_ARGUMENTS = inspect.signature(ActorCriticPolicy.__init__).parameters.keys() - set(
    _POLICY_IS_GIVEN
)
"""What a policy is given in ``policy_kwargs``."""


def _check_arguments(
    setting: str, arguments: Mapping[str, Any], made: type, given: tuple[str, ...]
) -> None:
    """Names of keyword arguments are those of the constructor."""
    known = inspect.signature(made.__init__).parameters.keys() - set(given)  # type: ignore[misc]
    for name in arguments:
        if name not in known:
            raise ConfigError(f"{setting}: {unknown_name(name, known)}")


def _check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    choices = tuple(choices)
    if value not in choices:
        raise ConfigError(f"{name}={value!r}: expected one of {', '.join(map(str, choices))}")


def unknown_name(name: str, known: Iterable[str]) -> str:
    """A message for a name that is not known, with the nearest one that is."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
    return f"unknown setting {name!r}; {hint}"


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
    _check_kind("env_kwargs", env_kwargs, (dict,))
    env_kwargs = {**env_kwargs, **_assignments(env_args, "--env-arg")}
    known = {each.name for each in fields(TrainConfig)} - {"env_id", "hyperparameters"}
    for name in values:
        if name in _REFUSED:
            raise ConfigError(f"{name} is not supported; {_REFUSED[name]}")
        if name in _POLICY_ARGUMENTS:
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


def different_settings(
    saved: Mapping[str, Any], config: TrainConfig
) -> Iterator[tuple[str, Any, Any]]:
    """Each setting in which the configuration of an earlier run is not this one.

    Args:
        saved: the content of its ``config.yaml``.
        config: to compare with.

    Yields:
        The name, ``env_id`` first, the run's value and that of ``config``.
    """
    before, now = _flat(saved), _flat(config.to_dict())
    for name in sorted(before.keys() | now.keys(), key=lambda name: (name != "env_id", name)):
        ours, theirs = before.get(name), now.get(name)
        # A NaN among an environment's arguments is not equal to itself, and reads the same.
        if ours != theirs and repr(ours) != repr(theirs):
            yield name, ours, theirs


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings on one level, with the hyperparameters that were left out and without versions."""
    hyperparameters = config.get("hyperparameters") or {}
    apart = {"hyperparameters": None, "versions": None}
    return {**HYPERPARAMETERS, **config, **hyperparameters, **apart}


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
    hint = _HYPERPARAMETER_TYPES.get(name) or _FIELD_TYPES.get(name)
    return int(value) if whole and int in _kinds(hint) else value
