"""Real observations and returns: the policy's environment, played by any policy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from trpo_deploy.errors import EnvError, SpaceError
from trpo_deploy.spec import (
    Array,
    BoxSpace,
    DictSpace,
    DiscreteSpace,
    MultiBinarySpace,
    MultiDiscreteSpace,
    Space,
)

MAX_EPISODE_STEPS = 10_000
"""An episode of an environment without a time limit is cut here."""
SIDE_BY_SIDE = 32
"""Environments that are open at once."""


@dataclass(frozen=True)
class Environment:
    """An environment that a policy fits, and how it was found."""

    env_id: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    """Said in the certificate where the environment is not the one of the training."""

    def make(self) -> gymnasium.Env[Any, Any]:
        """A new instance.

        Raises:
            EnvError: it cannot be made here.
        """
        try:
            with warnings.catch_warnings():  # old versions of an id are used on purpose here
                warnings.simplefilter("ignore", DeprecationWarning)
                return gymnasium.make(self.env_id, **self.kwargs)
        except Exception as error:  # anything: an environment is somebody's code
            reason = " ".join(str(error).split())
            raise EnvError(f"the environment {self.env_id} cannot be made ({reason})") from error


def find_environment(
    env_id: str,
    kwargs: dict[str, Any],
    observation_space: Space | DictSpace,
    action_space: Space,
) -> Environment:
    """The environment of that id, or its newest version here, if its spaces are the policy's.

    Raises:
        EnvError: there is none.
    """
    environment = Environment(env_id, kwargs)
    try:
        made = environment.make()
    except EnvError as error:
        newest = _newest_version(env_id)
        if newest is None:
            raise
        environment = Environment(newest, kwargs, f"{newest} in place of {env_id}: {error}")
        made = environment.make()
    with made:
        for role, expected, found in (
            ("observations", observation_space, made.observation_space),
            ("actions", action_space, made.action_space),
        ):
            if not _fits(expected, found):
                raise EnvError(
                    f"{environment.env_id} has the {role} {found}, the policy was trained for "
                    f"{expected.describe()}; name the right environment with --env"
                )
    return environment


def space_from_gymnasium(space: spaces.Space[Any]) -> Space | DictSpace:
    """A Gymnasium space as the spec writes it.

    Raises:
        SpaceError: there is no such space in a spec.
    """
    if isinstance(space, spaces.Box):
        return BoxSpace(space.low, space.high)
    if isinstance(space, spaces.Discrete):
        return DiscreteSpace(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiDiscreteSpace(space.nvec.astype(np.int64), space.start.astype(np.int64))
    if isinstance(space, spaces.MultiBinary):
        return MultiBinarySpace(tuple(space.shape))
    if isinstance(space, spaces.Dict):
        parts = {key: space_from_gymnasium(part) for key, part in space.spaces.items()}
        return DictSpace({key: _without_keys(key, part) for key, part in parts.items()})
    raise SpaceError(
        f"the space {space} is not supported; supported: Box, Discrete, MultiDiscrete, "
        "MultiBinary, and a Dict of these"
    )


def _without_keys(key: str, space: Space | DictSpace) -> Space:
    if isinstance(space, DictSpace):
        raise SpaceError(f"the observation {key!r} is a Dict within a Dict; flatten it")
    return space


def _fits(expected: Space | DictSpace, found: spaces.Space[Any]) -> bool:
    """Whether observations or actions can be exchanged; bounds may differ between versions."""
    try:
        space = space_from_gymnasium(found)
    except SpaceError:
        return False
    if isinstance(expected, DictSpace) and isinstance(found, spaces.Dict):
        return set(expected.spaces) == set(found.spaces) and all(
            _fits(part, found.spaces[key]) for key, part in expected.spaces.items()
        )
    if isinstance(expected, BoxSpace) and isinstance(space, BoxSpace):
        return expected.shape == space.shape and expected.dtype == space.dtype
    return expected.to_json() == space.to_json()


def _newest_version(env_id: str) -> str | None:
    match = re.fullmatch(r"(.+)-v\d+", env_id)
    if match is None:
        return None
    versions = [
        spec.version
        for spec in gymnasium.registry.values()
        if spec.id == f"{match[1]}-v{spec.version}" and spec.version is not None
    ]
    return f"{match[1]}-v{max(versions)}" if versions else None


@dataclass(frozen=True, eq=False)
class Episodes:
    """What came of playing an environment."""

    returns: Array
    """Sum of rewards of each episode, float64 ``(episodes,)``."""
    observations: Array
    """All raw observations, as the environment gave them."""


def play(environment: Environment, act: Callable[[Array], Array], seeds: Sequence[int]) -> Episodes:
    """Play one episode a seed, side by side, so that a policy sees batches.

    Args:
        environment: what to play.
        act: actions for a batch of raw observations.
        seeds: the seeds of the episodes' resets.
    """
    groups = [seeds[i : i + SIDE_BY_SIDE] for i in range(0, len(seeds), SIDE_BY_SIDE)]
    played = [_play_side_by_side(environment, act, group) for group in groups]
    return Episodes(
        np.concatenate([each.returns for each in played]),
        np.concatenate([each.observations for each in played]),
    )


def _play_side_by_side(
    environment: Environment, act: Callable[[Array], Array], seeds: Sequence[int]
) -> Episodes:
    with ExitStack() as stack:
        envs = [stack.enter_context(environment.make()) for _ in seeds]
        running = {i: env.reset(seed=seeds[i])[0] for i, env in enumerate(envs)}
        returns = np.zeros(len(envs))
        observations: list[Array] = []
        for _ in range(MAX_EPISODE_STEPS):
            batch = np.stack(list(running.values()))
            observations.append(batch)
            still_running = {}
            for i, action in zip(running, act(batch), strict=True):
                observation, reward, terminated, truncated, _ = envs[i].step(action)
                returns[i] += float(reward)
                if not (terminated or truncated):
                    still_running[i] = observation
            running = still_running
            if not running:
                break
        return Episodes(returns, np.concatenate(observations))
