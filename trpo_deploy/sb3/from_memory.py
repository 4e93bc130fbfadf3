"""A trained policy and what is known of its training, from a model in memory."""

from __future__ import annotations

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

from trpo_deploy.errors import ExportError
from trpo_deploy.sb3.observation_chain import Wrapping
from trpo_deploy.sb3.policy_zip import SUPPORTED
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.sb3.source import LoadedSource, SourceOptions


def load_model(
    model: BaseAlgorithm | ActorCriticPolicy,
    vecnormalize: VecNormalize | None,
    options: SourceOptions,
) -> LoadedSource:
    """A model or a bare policy that is in memory.

    Of a model, the environment's wrappers are looked at, so that nothing has to be said about
    them. A bare policy has none.

    Raises:
        ExportError: no actor-critic policy.
        SpaceError: the statistics or the frame stack do not fit, or the image layout is unknown.
    """
    policy = model.policy if isinstance(model, BaseAlgorithm) else model
    if not isinstance(policy, ActorCriticPolicy):
        kind = type(policy).__name__
        raise ExportError(f"{kind} cannot be exported; supported: {SUPPORTED}")
    env = model.get_env() if isinstance(model, BaseAlgorithm) else None
    own = getattr(model, "get_vec_normalize_env", lambda: None)()
    statistics = vecnormalize if vecnormalize is not None else own
    found = Wrapping() if env is None else _wrapping_of(env)
    # Our own TRPO has them where SB3 was given other spaces than the environment's.
    observation_space = getattr(model, "env_observation_space", None)
    action_space = getattr(model, "env_action_space", None)
    wrapping = Wrapping(
        options.image_layout or found.image_layout, options.frame_stack or found.frame_stack
    )
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
        env_id=_env_id(env),
        env_kwargs={},
        env_wrapper=(),
        sha256={"weights": sha256(b"".join(weights)).hexdigest()},
        sb3_version=version("stable-baselines3"),
        training={"timesteps": getattr(model, "num_timesteps", 0)},
    )


def _wrapping_of(env: Any) -> Wrapping:
    stack = unwrap_vec_wrapper(env, VecFrameStack)
    frame_stack = stack.stacked_obs.n_stack if isinstance(stack, VecFrameStack) else 1
    transpose = unwrap_vec_wrapper(env, VecTransposeImage)
    transposed = isinstance(transpose, VecTransposeImage) and not transpose.skip
    return Wrapping("hwc" if transposed else "chw", frame_stack)


def _env_id(env: Any) -> str | None:
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    try:
        (spec, *_) = env.get_attr("spec")
        return None if spec is None else str(spec.id)
    except (AttributeError, TypeError, ValueError):
        return None
