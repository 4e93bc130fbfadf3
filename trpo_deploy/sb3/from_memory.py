"""Load a trained policy from a model in memory."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import (
    VecEnvWrapper,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
    unwrap_vec_wrapper,
)

from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.recorded import record_environment
from trpo_deploy.errors import ExportError
from trpo_deploy.sb3.observation_chain import Wrapping
from trpo_deploy.sb3.policy_zip import SUPPORTED
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.sb3.source import LoadedSource, SourceOptions
from trpo_deploy.spec.environment import EnvironmentSpec

_MONITOR = "stable_baselines3.common.monitor:Monitor"
"""SB3 puts it around every environment; it changes neither observations nor rewards."""


def load_model(
    model: BaseAlgorithm | ActorCriticPolicy,
    vecnormalize: VecNormalize | None,
    options: SourceOptions,
) -> LoadedSource:
    """Take a policy from a model, or a bare policy.

    The vec-env wrappers of a model's environment tell the frame stack, the image layout and the
    normaliser. A bare policy has no environment.

    Raises:
        ExportError: The policy is not an actor-critic policy.
        SpaceError: The statistics or the frame stack do not fit, or the image layout is unknown.
    """
    policy = model.policy if isinstance(model, BaseAlgorithm) else model
    _check_supported(policy)
    env = model.get_env() if isinstance(model, BaseAlgorithm) else None
    own_statistics = getattr(model, "get_vec_normalize_env", lambda: None)()
    statistics = vecnormalize if vecnormalize is not None else own_statistics
    found = Wrapping() if env is None else _wrapping_of(env)
    wrapping = Wrapping(
        options.image_layout or found.image_layout, options.frame_stack or found.frame_stack
    )
    # Our TRPO keeps the environment's spaces here if SB3 was given translated ones.
    observation_space = getattr(model, "env_observation_space", None)
    action_space = getattr(model, "env_action_space", None)
    recorded = _recorded(env, wrapping.frame_stack, options.env_id)
    in_memory = () if recorded is None else [each.name for each in recorded.wrappers]
    weights = [each.detach().cpu().numpy().tobytes() for each in policy.state_dict().values()]
    return LoadedSource(
        reference=SB3Policy(
            policy,
            statistics,
            policy.observation_space if observation_space is None else observation_space,
            policy.action_space if action_space is None else action_space,
            wrapping,
        ),
        algorithm=type(model).__name__,
        has_std=True,
        recorded=recorded,
        sha256={"weights": sha256(b"".join(weights)).hexdigest()},
        sb3_version=version("stable-baselines3"),
        training={"timesteps": getattr(model, "num_timesteps", 0)},
        asked=options.env_id is not None,
        trusted=(*options.allow_import, *in_memory),
    )


# They decide the action. A policy that overrides one, such as a recurrent policy, is not read right.
_DECIDES_THE_ACTION = (
    "predict",
    "_predict",
    "get_distribution",
    "_get_action_dist_from_latent",
    "extract_features",
)


def _check_supported(policy: object) -> None:
    own = [
        name
        for name in _DECIDES_THE_ACTION
        if getattr(type(policy), name, None) is not getattr(ActorCriticPolicy, name)
    ]
    if not isinstance(policy, ActorCriticPolicy) or own:
        raise ExportError(
            f"the model has a {type(policy).__name__}, which is not supported; supported: "
            f"{SUPPORTED}"
        )


def _wrapping_of(env: Any) -> Wrapping:
    stack = unwrap_vec_wrapper(env, VecFrameStack)
    frame_stack = stack.stacked_obs.n_stack if isinstance(stack, VecFrameStack) else 1
    transpose = unwrap_vec_wrapper(env, VecTransposeImage)
    transposed = isinstance(transpose, VecTransposeImage) and not transpose.skip
    return Wrapping("hwc" if transposed else "chw", frame_stack)


def _recorded(env: Any, frame_stack: int, asked: str | None) -> EnvironmentSpec | None:
    """The environment's id, arguments and wrappers, from its Gymnasium spec."""
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    try:
        (spec, *_) = env.get_attr("spec")
        environment_id, arguments = str(spec.id), dict(spec.kwargs)
        around = list(spec.additional_wrappers)
    except (AttributeError, TypeError, ValueError):  # not a Gymnasium environment
        environment_id, arguments, around = "", {}, []
    environment_id = asked or environment_id
    if not environment_id:
        return None
    arguments.pop("render_mode", None)
    # A wrapper that does not record its arguments has None for them.
    named = [(_wrapper_name(each.entry_point), each.kwargs) for each in around]
    wrappers = [{name: arguments} for name, arguments in named if arguments is not None]
    recorded = record_environment(
        Environment(environment_id, arguments, env_wrapper=wrappers, frame_stack=frame_stack)
    )
    unknown = [name for name, arguments in named if arguments is None and name != _MONITOR]
    return replace(recorded, unrecorded=(*(recorded.unrecorded or ()), *unknown))


def _wrapper_name(entry_point: str) -> str:
    """``module:Class``, in the public module of Gymnasium's wrappers."""
    return re.sub(r"^gymnasium\.wrappers\.\w+:", "gymnasium.wrappers:", entry_point)
