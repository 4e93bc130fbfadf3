"""What a normaliser can take, and its running statistics, kept aside and put back."""

from __future__ import annotations

import copy
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.errors import SpaceError


def check_normalized_spaces(env: VecNormalize | None) -> None:
    """Refuse whole numbers: SB3 keeps what it made of them as whole numbers again.

    Images are none any more where they are normalised.

    Raises:
        SpaceError: naming the space.
    """
    if env is None:
        return
    for what, part in _normalized_parts(env, env.observation_space).items():
        if part.dtype is not None and part.dtype.kind in "iub":
            raise SpaceError(
                f"{part} of {what} holds whole numbers, and normalised ones would be cut to whole "
                "numbers again: make them floats in a wrapper, as "
                "gymnasium.wrappers.DtypeObservation with dtype: float32 does, or train on them as "
                "they are with normalize={norm_obs: false}"
            )


def check_no_images(env: VecNormalize, raw_space: spaces.Space[Any]) -> None:
    """Refuse to normalise images: an exported policy would take what the normaliser gives.

    Args:
        env: the normaliser.
        raw_space: what it normalises, copied before: SB3 changes a Dict in place.

    Raises:
        SpaceError: naming the space.
    """
    for what, part in _normalized_parts(env, raw_space).items():
        if is_image_space(part):
            raise SpaceError(
                f"{part} of {what} is an image, which the policy scales by itself; leave it out of "
                "the normaliser with --set 'normalize={norm_obs: false}', or name the other "
                "observations with norm_obs_keys"
            )


def _normalized_parts(env: VecNormalize, space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    if not env.norm_obs:
        return {}
    if isinstance(space, spaces.Dict):
        return {f"the observation {key!r}": space[key] for key in env.norm_obs_keys or ()}
    return {"the observations": space}


def copy_statistics(env: VecNormalize | None) -> dict[str, Any] | None:
    """What a rollout changes in a normaliser, or None if there is no normaliser."""
    if env is None:
        return None
    names = ("obs_rms", "ret_rms", "returns")
    return {name: copy.deepcopy(getattr(env, name)) for name in names if hasattr(env, name)}


def restore_statistics(env: VecNormalize | None, before: dict[str, Any] | None) -> None:
    """Put back what :func:`copy_statistics` returned."""
    if env is None or before is None:
        return
    for name in ("obs_rms", "ret_rms"):
        if name in before:
            _restore(getattr(env, name), before[name])
    env.returns = before["returns"]


def _restore(target: Any, source: Any) -> None:
    # In place: evaluation environments share these objects.
    if isinstance(source, dict):
        for key, part in source.items():
            _restore(target[key], part)
        return
    target.mean, target.var, target.count = source.mean, source.var, source.count
