"""Refuses spaces that no policy of TRPO supports, and says what to do about them."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

from trpo_deploy.errors import SpaceError

_SUPPORTED = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)

_ADVICE: dict[type, str] = {
    spaces.Tuple: "use a Dict for named parts of an observation, and one MultiDiscrete or Box for "
    "actions",
    spaces.Dict: "put observations on one level of keys, and actions into one MultiDiscrete or Box",
    spaces.Text: "encode the text as a Box or MultiDiscrete of fixed size",
    spaces.Sequence: "pad it to a Box of fixed size",
    spaces.Graph: "encode nodes and edges as Boxes of fixed size in a Dict",
}


def check_spaces(env_id: str, env: gymnasium.Env[Any, Any], policy: str | None = None) -> None:
    """Check that TRPO supports the observation and action spaces.

    Args:
        env_id: The environment's id, for messages.
        env: An instance of it.
        policy: Alias of the policy, or None for any.

    Raises:
        SpaceError: With the space and what to do about it.
    """
    observations = env.observation_space
    if policy == "MultiInputPolicy" and not isinstance(observations, spaces.Dict):
        raise SpaceError(
            f"{env_id} has a {type(observations).__name__} observation space, MultiInputPolicy "
            "needs a Dict: use --set policy=MlpPolicy, or CnnPolicy for images"
        )
    if isinstance(observations, spaces.Dict):
        for key, part in observations.items():
            _check_space(env_id, f"the observation {key!r}", part)
        _check_image_layouts(env_id, observations)
    else:
        _check_space(env_id, "the observations", observations)
    actions = env.action_space
    _check_space(env_id, "the actions", actions)
    if isinstance(actions, spaces.Box) and actions.dtype.kind != "f":
        raise SpaceError(
            f"{env_id} has an integer Box for the actions, {actions}, but a policy samples real "
            "numbers: make it a MultiDiscrete, or round in a wrapper with "
            "--set env_wrapper=module:Class"
        )
    if policy in ("MlpPolicy", "CnnPolicy") and isinstance(observations, spaces.Dict):
        raise SpaceError(
            f"{env_id} has a Dict observation space, which {policy} does not take: use "
            "--set policy=MultiInputPolicy"
        )


def _check_space(env_id: str, what: str, space: spaces.Space[Any]) -> None:
    if isinstance(space, _SUPPORTED):
        return
    advice = next(
        (text for kind, text in _ADVICE.items() if isinstance(space, kind)),
        "convert it to one of these",
    )
    raise SpaceError(
        f"{env_id} has a {type(space).__name__} space for {what}, {space}; TRPO supports "
        f"{', '.join(kind.__name__ for kind in _SUPPORTED)}, and a Dict of these as observations; "
        f"wrap the environment with --set env_wrapper=module:Class: {advice}"
    )


def _check_image_layouts(env_id: str, observations: spaces.Dict) -> None:
    # SB3 transposes either all images of an observation or none.
    images = {
        key: part
        for key, part in observations.items()
        if isinstance(part, spaces.Box) and is_image_space(part)
    }
    first = [key for key, part in images.items() if is_image_space_channels_first(part)]
    last = [key for key in images if key not in first]
    if first and last:
        raise SpaceError(
            f"{env_id} has channels-first images ({', '.join(first)}) and channels-last images "
            f"({', '.join(last)}); a policy supports one layout: transpose one kind with "
            "--set env_wrapper=module:Class"
        )
