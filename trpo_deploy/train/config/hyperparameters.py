"""The hyperparameters of TRPO and the arguments of its policies, from their signatures."""

from __future__ import annotations

import inspect
from typing import get_type_hints

from stable_baselines3.common.policies import ActorCriticPolicy

from trpo_deploy.train.algorithm.trpo import TRPO

# Arguments that a run supplies itself.
_NOT_HYPERPARAMETERS = {
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
    for name, parameter in inspect.signature(TRPO).parameters.items()
    if name not in _NOT_HYPERPARAMETERS
}
"""Hyperparameters of :class:`TRPO` that a preset or ``--set`` can change, with their defaults."""

HYPERPARAMETER_TYPES = {
    name: hint for name, hint in get_type_hints(TRPO.__init__).items() if name in HYPERPARAMETERS
}
"""Their annotations."""

SUPPLIED_TO_POLICY = ("observation_space", "action_space", "lr_schedule", "use_sde")
"""Arguments that TRPO supplies to a policy."""

POLICY_ARGUMENTS = inspect.signature(ActorCriticPolicy).parameters.keys() - set(SUPPLIED_TO_POLICY)
"""Arguments that ``policy_kwargs`` can contain."""
