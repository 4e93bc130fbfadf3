"""Normalizers of the training and evaluation environments."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from trpo_deploy.errors import ConfigError, SpaceError


def normalize_training(env: VecEnv, arguments: Mapping[str, Any], env_id: str) -> VecNormalize:
    """Wrap training environments in a ``VecNormalize``; on an error they are closed.

    Args:
        env: The environments.
        arguments: Arguments of ``VecNormalize``.
        env_id: The environment's id, for messages.

    Raises:
        ConfigError: The arguments do not fit the environment.
        SpaceError: The normalizer would normalize an image.
    """
    raw_space = copy.deepcopy(env.observation_space)
    try:
        normalized = VecNormalize(env, **arguments)
    except (LookupError, TypeError, ValueError) as error:
        env.close()
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"VecNormalize with {dict(arguments)} does not fit {env_id}: {reason}; "
            "--set normalize=false trains on raw observations"
        ) from error
    try:
        _check_no_images(normalized, raw_space)
    except SpaceError:
        env.close()
        raise
    return normalized


def normalize_evaluation(env: VecEnv, training_env: VecEnv) -> VecEnv:
    """Normalize evaluation environments as the training environments, with raw rewards.

    The running statistics are shared, so an evaluation always sees the current ones.

    Args:
        env: Evaluation environments.
        training_env: Training environments; without a ``VecNormalize``, ``env`` is returned.
    """
    if not isinstance(training_env, VecNormalize):
        return env
    normalized = VecNormalize(
        env,
        training=False,
        norm_obs=training_env.norm_obs,
        norm_reward=False,
        clip_obs=training_env.clip_obs,
        epsilon=training_env.epsilon,
        norm_obs_keys=training_env.norm_obs_keys,
    )
    if training_env.norm_obs:
        normalized.obs_rms = training_env.obs_rms
    return normalized


def check_normalized_spaces(env: VecNormalize | None) -> None:
    """Refuse integer observations: SB3's buffer would truncate the normalized values.

    Images pass only if the normalizer leaves them out; normalized they are integers too.

    Raises:
        SpaceError: With the space.
    """
    if env is None:
        return
    for what, part in _normalized_parts(env, env.observation_space).items():
        if part.dtype is not None and part.dtype.kind in "iub":
            raise SpaceError(
                f"{part} of {what} holds integers, and the normalized values would be truncated "
                "to integers: convert them to floats in a wrapper, for example "
                "gymnasium.wrappers.DtypeObservation with dtype: float32, or train on raw "
                "observations with normalize={norm_obs: false}"
            )


def check_has_environments(env: VecNormalize | None) -> None:
    """Refuse a normalizer without environments, such as that of a copied model.

    Raises:
        ValueError: With what to do.
    """
    if env is not None and env.venv is None:
        raise ValueError(
            "the VecNormalize of this model has no environments, since copying and pickling leave "
            "them out: call model.get_vec_normalize_env().set_venv(...), then "
            "model.set_env(model.env)"
        )


def _check_no_images(env: VecNormalize, raw_space: spaces.Space[Any]) -> None:
    """Refuse to normalize images: the policy scales images itself.

    Args:
        env: The normalizer.
        raw_space: Copy of the space that it normalizes, made before; SB3 changes a Dict in place.

    Raises:
        SpaceError: With the space.
    """
    for what, part in _normalized_parts(env, raw_space).items():
        if is_image_space(part):
            raise SpaceError(
                f"{part} of {what} is an image, which the policy scales itself; exclude it from "
                "normalization with --set 'normalize={norm_obs: false}', or list the other "
                "observations in norm_obs_keys"
            )


def _normalized_parts(env: VecNormalize, space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    if not env.norm_obs:
        return {}
    if isinstance(space, spaces.Dict):
        return {f"the observation {key!r}": space[key] for key in env.norm_obs_keys or ()}
    return {"the observations": space}
