"""The configuration of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_type_hints

import numpy as np
from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.class_path import class_list
from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.wrappers import wrapper_classes
from trpo_deploy.errors import ConfigError
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.config.checks import (
    allowed_types,
    check_arguments,
    check_choice,
    check_range,
    check_setting,
    check_type,
    unknown_name,
)
from trpo_deploy.train.config.hyperparameters import (
    HYPERPARAMETER_TYPES,
    HYPERPARAMETERS,
    SUPPLIED_TO_POLICY,
)
from trpo_deploy.train.config.policy_arguments import policy_arguments
from trpo_deploy.train.config.schedules import linear_schedule

VEC_ENVS = ("auto", "sync", "subproc", "envpool")
"""Ways to step several environments."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything needed to repeat a training run.

    Raises:
        ConfigError: A name is unknown, or a value has the wrong type or is out of range.
    """

    env_id: str
    """A Gymnasium id, or ``module:Id`` for one that a module registers."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    env_wrapper: Any = None
    """Wrappers as ``module:Class``: one, a list, or mappings of a name to its arguments."""
    frame_stack: int | None = None
    """Number of consecutive observations that the policy receives as one."""
    vec_env: str = "auto"
    """How to step several environments: one of :data:`VEC_ENVS`."""
    policy: str = "MlpPolicy"
    """Alias of the policy's class."""
    n_timesteps: int = 1_000_000
    """Environment steps to train for, summed over all environments."""
    n_envs: int = 1
    """Number of environments."""
    normalize: bool | Mapping[str, Any] = False
    """Normalise observations and returns; a mapping contains arguments of ``VecNormalize``."""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of :class:`TRPO` as plain values; classes and schedules by name."""
    seed: int = 0
    """Random seed (environment, weights, sampling). Evaluation episodes use other seeds."""
    device: str = "auto"
    """Device of the networks: ``auto``, ``cpu`` or ``cuda``."""
    eval_every: int = 10_000
    """Environment steps between two evaluations."""
    eval_episodes: int = 20
    """Deterministic episodes per evaluation."""
    stop_return: float | None = None
    """Stop the run when the mean evaluation return reaches this value."""
    checkpoint_every: int = 10_000
    """Environment steps between two checkpoints."""
    callback: Any = None
    """The user's callbacks as ``module:Class``, in the form of ``env_wrapper``."""
    logger: Any = None
    """The user's loggers as ``module:Class``, in the form of ``env_wrapper``."""
    init: str | None = None
    """Policy to start from: a policy zip, a model folder or a run of RL Zoo."""
    init_sha256: Mapping[str, str] | None = field(default=None, compare=False)
    """Hex SHA-256 of its files by name, as the run found them; other files are refused."""
    preset: str | None = field(default=None, compare=False)
    """Preset or file that settings were taken from, for the run's card; it changes nothing."""

    def __post_init__(self) -> None:
        for each in fields(self):
            check_setting(each.name, getattr(self, each.name), FIELD_TYPES[each.name])
        check_choice("vec_env", self.vec_env, VEC_ENVS)
        check_choice("policy", self.policy, TRPO.policy_aliases)
        for name in ("env_wrapper", "callback", "logger"):
            class_list(name, getattr(self, name))
        self._check_hyperparameters()
        self._check_normalize()

    def _check_hyperparameters(self) -> None:
        for name, value in self.hyperparameters.items():
            if name not in HYPERPARAMETERS:
                raise ConfigError(unknown_name(name, HYPERPARAMETERS))
            if name == "learning_rate":
                linear_schedule(name, value)
            else:
                check_setting(name, value, HYPERPARAMETER_TYPES[name])
        policy_kwargs = self.hyperparameters.get("policy_kwargs") or {}
        policy_class = TRPO.policy_aliases[self.policy]
        check_arguments("policy_kwargs", policy_kwargs, policy_class, SUPPLIED_TO_POLICY)
        policy_arguments(policy_kwargs)

    def _check_normalize(self) -> None:
        if isinstance(self.normalize, Mapping):
            check_arguments("normalize", self.normalize, VecNormalize, ("venv",))
            hints = get_type_hints(VecNormalize.__init__)
            for name, value in self.normalize.items():
                check_type(f"normalize: {name}", value, allowed_types(hints[name]))
                check_range(name, value)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values, as written to ``config.yaml``."""
        return dict(_plain(asdict(self)))

    @property
    def environment(self) -> Environment:
        """The environment with its arguments and wrappers."""
        return Environment(
            self.env_id,
            dict(self.env_kwargs),
            env_wrapper=self.env_wrapper,
            frame_stack=self.frame_stack,
        )

    @property
    def policy_classes(self) -> tuple[str, ...]:
        """Classes of the policy outside torch and SB3, as ``package.module:Class``."""
        arguments = policy_arguments(self.hyperparameters.get("policy_kwargs") or {})
        classes = [value for value in arguments.values() if isinstance(value, type)]
        libraries = ("torch.", "stable_baselines3.")
        own = [each for each in classes if not each.__module__.startswith(libraries)]
        return tuple(f"{each.__module__}:{each.__qualname__}" for each in own)

    @property
    def own_classes(self) -> tuple[str, ...]:
        """:attr:`policy_classes` and wrappers, as ``package.module:Class``."""
        return self.policy_classes + wrapper_classes(self.env_wrapper)

    def algorithm_arguments(self) -> dict[str, Any]:
        """The keyword arguments of :class:`TRPO`, with classes and schedules in place of names."""
        arguments = dict(self.hyperparameters)
        if "learning_rate" in arguments:
            arguments["learning_rate"] = linear_schedule(
                "learning_rate", arguments["learning_rate"]
            )
        if arguments.get("policy_kwargs"):
            arguments["policy_kwargs"] = policy_arguments(arguments["policy_kwargs"])
        return arguments


FIELD_TYPES = get_type_hints(TrainConfig)
"""Annotations of the fields of :class:`TrainConfig`."""


def _plain(value: Any) -> Any:
    """Convert a value to types that YAML can express."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
