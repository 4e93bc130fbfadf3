"""Real observations and returns: the policy's environment, played by any policy."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from trpo_deploy.errors import EnvError
from trpo_deploy.spec import Array

MAX_EPISODE_STEPS = 10_000
"""An episode of an environment without a time limit is cut here."""


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
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> Environment:
    """The environment of that id, or its newest version here whose spaces are the policy's.

    Raises:
        EnvError: there is none.
    """
    same = Environment(env_id, kwargs)
    try:
        made = same.make()
    except EnvError as error:
        newest = _newest_version(env_id)
        if newest is None:
            raise
        same = Environment(newest, kwargs, f"{newest} in place of {env_id}: {error}")
        made = same.make()
    with made:
        for role, expected, found in (
            ("observations", observation_space, made.observation_space),
            ("actions", action_space, made.action_space),
        ):
            if type(expected) is not type(found) or expected.shape != found.shape:
                raise EnvError(
                    f"{same.env_id} has the {role} {found}, the policy was trained for {expected}; "
                    "name the right environment with --env"
                )
    return same


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
    """Play one episode a seed, all side by side, so that a policy sees batches.

    Args:
        environment: what to play.
        act: actions for a batch of raw observations.
        seeds: the seeds of the episodes' resets.
    """
    envs = [environment.make() for _ in seeds]
    try:
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
    finally:
        for env in envs:
            env.close()
