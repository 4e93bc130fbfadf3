"""What a training run is made of, from a preset and the command line to one frozen object."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, get_type_hints

import numpy as np
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.wrappers import wrapper_classes, wrapper_list
from trpo_deploy.errors import ConfigError
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.config.checks import (
    allowed_types,
    check_arguments,
    check_choice,
    check_kind,
    check_range,
    check_type,
    unknown_name,
)
from trpo_deploy.train.config.class_names import linear_schedule, policy_arguments

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
            check_type(each.name, getattr(self, each.name), FIELD_TYPES[each.name])
        for name, value in self.hyperparameters.items():
            if name not in HYPERPARAMETERS:
                raise ConfigError(unknown_name(name, HYPERPARAMETERS))
            if name == "learning_rate":
                linear_schedule(name, value)
            else:
                check_type(name, value, HYPERPARAMETER_TYPES[name])
        check_choice("vec_env", self.vec_env, VEC_ENVS)
        check_choice("policy", self.policy, TRPO.policy_aliases)
        wrapper_list(self.env_wrapper)
        policy_kwargs = self.hyperparameters.get("policy_kwargs") or {}
        policy_class = TRPO.policy_aliases[self.policy]
        check_arguments("policy_kwargs", policy_kwargs, policy_class, _POLICY_IS_GIVEN)
        policy_arguments(policy_kwargs)
        if isinstance(self.normalize, Mapping):
            check_arguments("normalize", self.normalize, VecNormalize, ("self", "venv"))
            hints = get_type_hints(VecNormalize.__init__)
            for name, value in self.normalize.items():
                check_kind(f"normalize: {name}", value, allowed_types(hints[name]))
                check_range(name, value)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they go into ``config.yaml``."""
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


FIELD_TYPES = get_type_hints(TrainConfig)


HYPERPARAMETER_TYPES = {
    name: hint for name, hint in get_type_hints(TRPO.__init__).items() if name in HYPERPARAMETERS
}


_POLICY_IS_GIVEN = ("self", "observation_space", "action_space", "lr_schedule", "use_sde")
"""What the algorithm gives to a policy by itself."""


POLICY_ARGUMENTS = inspect.signature(ActorCriticPolicy.__init__).parameters.keys() - set(
    _POLICY_IS_GIVEN
)
"""What a policy is given in ``policy_kwargs``."""


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
