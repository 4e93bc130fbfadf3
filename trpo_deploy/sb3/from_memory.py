"""Load a trained policy from a model in memory."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import gymnasium
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import (
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
    unwrap_vec_wrapper,
)

from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.recorded import record_environment, recorded_space
from trpo_deploy.envs.space_translation import sb3_action_space
from trpo_deploy.errors import ExportError
from trpo_deploy.sb3.environment_in_memory import (
    EnvironmentInMemory,
    base_env,
    gymnasium_spec,
    read_environment,
)
from trpo_deploy.sb3.inside_wrappers import NO_WRAPPERS
from trpo_deploy.sb3.model_in_memory import ModelInMemory
from trpo_deploy.sb3.normalizer_check import check_normalizer
from trpo_deploy.sb3.observation_chain import Wrapping
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.sb3.source import LoadedSource, SourceOptions
from trpo_deploy.sb3.supported_policies import unsupported
from trpo_deploy.sb3.training_record import TrainingRecord, read_training_record
from trpo_deploy.spec.environment import EnvironmentSpec
from trpo_deploy.spec.policy_spec import OBS

WEIGHTS = "weights"
"""Name of a source in memory, in place of a file's."""


def load_model(
    model: BaseAlgorithm | ActorCriticPolicy,
    vecnormalize: VecNormalize | None,
    options: SourceOptions,
) -> LoadedSource:
    """Take a policy from a model, or a bare policy.

    The wrappers of a model's environment tell the frame stack, the image layout, the normaliser and
    what else the file must contain. A bare policy has no environment. The policy is put into
    evaluation mode and stays in it.

    Raises:
        ExportError: The policy is not a supported one, a wrapper of the environment is unknown, or
            the policy was trained with a normaliser and has none.
        SpaceError: The statistics or the frame stack do not fit, or the image layout is unknown.
    """
    policy = _supported(model.policy if isinstance(model, BaseAlgorithm) else model)
    # As predict does. In training mode, each call would change the statistics of a batch norm.
    policy.set_training_mode(False)
    env = model.get_env() if isinstance(model, BaseAlgorithm) else None
    environment = None if env is None else read_environment(env, options.allow_wrappers)
    own_statistics = None if environment is None else environment.statistics
    statistics = vecnormalize if vecnormalize is not None else own_statistics
    inside = NO_WRAPPERS if environment is None else environment.inside
    record = TrainingRecord()
    if isinstance(model, BaseAlgorithm):
        record = read_training_record(vars(model).get)
    accepted = check_normalizer(record, statistics, accept=not options.normalize_check)
    found = Wrapping() if env is None else _wrapping_of(env)
    if env is None and options.env_id is not None:
        named = EnvironmentSpec(options.env_id)
        space = recorded_space(named, (*options.allow_import, named.id))
        found = Wrapping(environment=space)
    wrapping = Wrapping(
        options.image_layout,
        options.frame_stack or found.frame_stack,
        found.environment,
        None if options.image_layout else found.transposed,
    )
    # Our TRPO keeps the environment's spaces here if SB3 was given translated ones.
    observation_space = getattr(model, "env_observation_space", None)
    action_space = getattr(model, "env_action_space", None)
    if inside.action:
        action_space = inside.action[0].env.action_space
    recorded = None
    if environment is not None:
        recorded = _recorded(environment, wrapping.frame_stack, options.env_id)
    elif options.env_id is not None:
        recorded = EnvironmentSpec(options.env_id, frame_stack=wrapping.frame_stack)
    in_memory = () if recorded is None else [each.name for each in recorded.wrappers]
    return LoadedSource(
        reference=SB3Policy(
            policy,
            statistics,
            policy.observation_space if observation_space is None else observation_space,
            # SB3 itself sends discrete actions counted from zero.
            sb3_action_space(policy.action_space) if action_space is None else action_space,
            wrapping,
            inside,
        ),
        algorithm=type(model).__name__,
        has_std=True,
        recorded=recorded,
        sha256={WEIGHTS: weights_sha256(policy)},
        sb3_version=version("stable-baselines3"),
        training={"timesteps": getattr(model, "num_timesteps", 0)},
        training_record=record,
        normalize_check=options.normalize_check,
        accepted_problem=accepted,
        model=_playable(model, environment, statistics),
        asked=options.env_id is not None,
        trusted=(*options.allow_import, *in_memory),
    )


def weights_sha256(policy: ActorCriticPolicy) -> str:
    """Hex SHA-256 of a policy's weights."""
    weights = [each.detach().cpu().numpy().tobytes() for each in policy.state_dict().values()]
    return sha256(b"".join(weights)).hexdigest()


def _supported(policy: object) -> ActorCriticPolicy:
    problem = unsupported(type(policy))
    if problem or not isinstance(policy, ActorCriticPolicy):
        raise ExportError(f"the model has a {problem}")
    return policy


def _playable(
    model: BaseAlgorithm | ActorCriticPolicy,
    environment: EnvironmentInMemory | None,
    statistics: VecNormalize | None,
) -> ModelInMemory | None:
    """The model with its environment, unless the statistics are not the environment's."""
    if not isinstance(model, BaseAlgorithm) or environment is None:
        return None
    return ModelInMemory(model, environment) if statistics is environment.statistics else None


def _wrapping_of(env: Any) -> Wrapping:
    stack = unwrap_vec_wrapper(env, VecFrameStack)
    frame_stack = stack.stacked_obs.n_stack if isinstance(stack, VecFrameStack) else 1
    transpose = unwrap_vec_wrapper(env, VecTransposeImage)
    transposed: list[str] = []
    if isinstance(transpose, VecTransposeImage) and not transpose.skip:
        transposed = getattr(transpose, "image_space_keys", [OBS])  # only a Dict has keys
    return Wrapping(
        frame_stack=frame_stack,
        environment=env.unwrapped.observation_space,
        transposed=frozenset(transposed),
    )


def _recorded(
    environment: EnvironmentInMemory, frame_stack: int, asked: str | None
) -> EnvironmentSpec | None:
    """The environment's id and arguments, from its Gymnasium spec, and the wrappers around it."""
    spec = gymnasium_spec(base_env(environment.env))
    environment_id = asked or ("" if spec is None else str(spec.id))
    if not environment_id:
        return None
    arguments = {} if spec is None else dict(spec.kwargs)
    arguments.pop("render_mode", None)
    if spec is not None and spec.max_episode_steps is not None:
        registered = gymnasium.registry.get(spec.id)
        if registered is not None and registered.max_episode_steps != spec.max_episode_steps:
            arguments["max_episode_steps"] = spec.max_episode_steps
    # A wrapper that does not record its arguments has None for them.
    wrappers = [
        {each.name: each.arguments} for each in environment.outside if each.arguments is not None
    ]
    recorded = record_environment(
        Environment(environment_id, arguments, env_wrapper=wrappers, frame_stack=frame_stack)
    )
    unknown = [each.name for each in environment.outside if each.arguments is None]
    return replace(recorded, unrecorded=(*(recorded.unrecorded or ()), *unknown))
