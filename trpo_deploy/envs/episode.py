"""Seeded episodes of an environment, played one by one or side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces

from trpo_deploy.envs.environment import FAILURES, Environment
from trpo_deploy.errors import EnvError
from trpo_deploy.spec.spaces import (
    Array,
)

MAX_EPISODE_STEPS = 10_000
"""An episode of an environment without a time limit is cut here."""


SIDE_BY_SIDE = 32
"""Environments that are open at once."""


Observation: TypeAlias = Array | dict[str, Array]


State: TypeAlias = tuple[Array, ...] | None


Act: TypeAlias = Callable[[Observation, State], tuple[Array, State]]
"""Actions for a batch of raw observations, and the state for the next step, as ``predict``."""


@dataclass(frozen=True, eq=False)
class Episodes:
    """What came of playing an environment."""

    returns: Array
    """Sum of rewards of each episode, float64 ``(episodes,)``."""
    observations: tuple[tuple[Observation, State], ...]
    """The first batches of raw observations and of states that the policy was given."""


class Episode:
    """One seeded episode; what the environment does wrong is told by seed and step.

    Args:
        environment: what ``env`` was made from, for messages.
        env: an instance of it.
        seed: of the reset.

    Raises:
        EnvError: from here and from :meth:`step`, if the environment raises or gives what is no
            observation of its space or no finite number.
    """

    observation: Any
    """The last one."""

    def __init__(self, environment: Environment, env: gymnasium.Env[Any, Any], seed: int) -> None:
        self._env, self._env_id, self._seed = env, environment.env_id, seed
        self._steps = 0
        self.total = 0.0
        """Sum of rewards."""
        self.ended = False
        with self._failures_named("reset"):
            self.observation, _ = env.reset(seed=seed)
        self._check()

    def step(self, action: Array) -> None:
        """Take an action."""
        self._steps += 1
        with self._failures_named("step"):
            self.observation, reward, terminated, truncated, _ = self._env.step(action)
            reward = float(reward)
        self._check()
        if not math.isfinite(reward):
            raise self._error(f"the reward is {reward}")
        self.total += reward
        self.ended = bool(terminated or truncated) or self._steps == MAX_EPISODE_STEPS

    @contextmanager
    def _failures_named(self, method: str) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            reason = " ".join(str(error).split())
            raise self._error(f"{method}() raised {type(error).__name__}: {reason}") from error

    def _check(self) -> None:
        problem = observation_problem(self.observation, self._env.observation_space)
        if problem is not None:
            raise self._error(problem)

    def _error(self, problem: str) -> EnvError:
        return EnvError(
            f"{self._env_id} failed in the episode of seed {self._seed} at step {self._steps}: "
            f"{problem}; look into the environment"
        )


def observation_problem(observation: Any, space: spaces.Space[Any]) -> str | None:
    """What makes this no observation of the space, or None.

    Bounds and types of numbers are left alone: a policy takes any that are finite.
    """
    if not isinstance(space, spaces.Dict):
        return _array_problem("the observation", observation, space)
    if not isinstance(observation, Mapping):
        return f"the observation is a {type(observation).__name__}, not a mapping"
    for key, part in space.items():
        if key not in observation:
            return f"the observation has no key {key!r}"
        problem = _array_problem(f"the observation {key!r}", observation[key], part)
        if problem is not None:
            return problem
    return None


def _array_problem(what: str, observation: Any, space: spaces.Space[Any]) -> str | None:
    if observation is None:
        return f"{what} is None"
    array = np.asarray(observation)
    if array.shape != space.shape:
        return f"{what} has the shape {array.shape}, not {space.shape}"
    if array.dtype.kind not in "biuf":
        return f"{what} is {observation!r:.40}, not of numbers"
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)) and not space.contains(
        np.asarray(array, space.dtype)
    ):
        return f"{what} is {array}, outside of {space}"
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return None
    place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
    where = f" at index {place[0] if array.ndim == 1 else place}" if array.size > 1 else ""
    return f"{what} is {array[place]}{where}"


def play(environment: Environment, act: Act, seeds: Sequence[int], keep: int = 0) -> Episodes:
    """Play one episode a seed, side by side, so that a policy sees batches.

    Args:
        environment: what to play.
        act: the policy; its state is ``None`` at the start of the episodes.
        seeds: the seeds of the episodes' resets.
        keep: how many observations to keep, of each :data:`SIDE_BY_SIDE` episodes.
    """
    groups = [seeds[i : i + SIDE_BY_SIDE] for i in range(0, len(seeds), SIDE_BY_SIDE)]
    played = [_play_side_by_side(environment, act, group, keep) for group in groups]
    return Episodes(
        np.concatenate([each.returns for each in played]),
        tuple(batch for each in played for batch in each.observations),
    )


def _play_side_by_side(
    environment: Environment, act: Act, seeds: Sequence[int], keep: int
) -> Episodes:
    with ExitStack() as stack:
        envs = [stack.enter_context(environment.opened()) for _ in seeds]
        episodes = [Episode(environment, *pair) for pair in zip(envs, seeds, strict=True)]
        running = episodes
        state: State = None
        observations: list[tuple[Observation, State]] = []
        while running:
            together = batch([episode.observation for episode in running])
            if keep > 0:
                observations.append((together, state))
                keep -= len(running)
            actions, state = act(together, state)
            for episode, action in zip(running, actions, strict=True):
                episode.step(action)
            rows = [row for row, episode in enumerate(running) if not episode.ended]
            running = [running[row] for row in rows]
            state = state and tuple(array[rows] for array in state)
        returns = np.array([episode.total for episode in episodes])
        return Episodes(returns, tuple(observations))


def batch(observations: Sequence[Any]) -> Observation:
    """Observations as one, along a new first axis."""
    if isinstance(observations[0], Mapping):
        return {key: np.stack([each[key] for each in observations]) for key in observations[0]}
    return np.stack(observations)
