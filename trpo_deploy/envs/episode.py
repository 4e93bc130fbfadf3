"""Seeded episodes of an environment, played one at a time or in parallel batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces

from trpo_deploy.envs.environment import FAILURES, Environment, layers_of
from trpo_deploy.errors import EnvError
from trpo_deploy.spec.policy_spec import FrameHistory
from trpo_deploy.spec.spaces import Array

MAX_EPISODE_STEPS = 10_000
"""Episodes are truncated after this many steps, since an environment may have no time limit."""

SIDE_BY_SIDE = 32
"""Number of episodes that are played at the same time, so that the policy sees batches."""

Observation: TypeAlias = Array | dict[str, Array]
"""An array, or a mapping of arrays for a space with keys."""

Act: TypeAlias = Callable[[Observation, FrameHistory | None], tuple[Array, FrameHistory | None]]
"""A policy: from raw observations and earlier frames (``None`` at the start of the episodes) to
actions and the frames for the next step. All have a batch axis."""


@dataclass(frozen=True, eq=False)
class Episodes:
    """Returns and observations of played episodes."""

    returns: Array
    """Sum of rewards of each episode, float64 ``(episodes,)``."""
    observations: tuple[tuple[Observation, FrameHistory | None], ...]
    """Batches of raw observations and of earlier frames, as the policy got them, evenly spaced
    over the episodes' steps."""
    cut: int
    """Number of episodes that did not end within :data:`MAX_EPISODE_STEPS`."""


class RewardMeter(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds up the environment's own rewards, inside of the wrappers that may change them."""

    total = 0.0
    """Sum of rewards since the last reset."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self.total = 0.0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take an action."""
        result = self.env.step(action)
        self.total += float(result[1])
        return result


class Episode:
    """One seeded episode that checks what the environment returns.

    Args:
        environment: What ``env`` was made from, for messages.
        env: An instance of ``environment``.
        seed: Seed for ``env.reset``.

    Raises:
        EnvError: The environment raises, or returns an observation outside its space or a number
            that is not finite; also from :meth:`step`. The message names the seed and the step.
    """

    observation: Any
    """The last observation."""

    def __init__(self, environment: Environment, env: gymnasium.Env[Any, Any], seed: int) -> None:
        self._env, self._env_id, self._seed = env, environment.env_id, seed
        self._steps = 0
        self._sum = 0.0
        self._meter = next((each for each in layers_of(env) if isinstance(each, RewardMeter)), None)
        self.ended = False
        self.cut = False
        """Whether it ended only because of :data:`MAX_EPISODE_STEPS`."""
        with self._failures_named("reset"):
            self.observation, _ = env.reset(seed=seed)
        self._check()

    @property
    def total(self) -> float:
        """Sum of rewards so far: the environment's own, if it was opened with a meter."""
        return self._sum if self._meter is None else self._meter.total

    def step(self, action: Array) -> None:
        """Take an action."""
        self._steps += 1
        with self._failures_named("step"):
            self.observation, reward, terminated, truncated, _ = self._env.step(action)
            reward = float(reward)
        self._check()
        if not math.isfinite(reward):
            raise self._error(f"the reward is {reward}")
        self._sum += reward
        self.ended = bool(terminated or truncated)
        self.cut = not self.ended and self._steps == MAX_EPISODE_STEPS
        self.ended = self.ended or self.cut

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
            f"{problem}; check the environment"
        )


def observation_problem(observation: Any, space: spaces.Space[Any]) -> str | None:
    """Why a value is not an observation of the space; ``None`` if it is.

    Bounds and number types are not checked: a policy takes any finite number.
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
        return f"{what} is {observation!r:.40}, not an array of numbers"
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
    """Play one episode for each seed, :data:`SIDE_BY_SIDE` at a time.

    Args:
        environment: The environment to play.
        act: The policy.
        seeds: Seeds for ``env.reset``.
        keep: Number of observations to keep of each group of episodes, if it has as many. At most
            about twice as many are kept.

    Raises:
        EnvError: The environment cannot be made or fails; see :class:`Episode`.
    """
    groups = [seeds[i : i + SIDE_BY_SIDE] for i in range(0, len(seeds), SIDE_BY_SIDE)]
    played = [_play_side_by_side(environment, act, group, keep) for group in groups]
    return Episodes(
        np.concatenate([each.returns for each in played]),
        tuple(batch for each in played for batch in each.observations),
        sum(each.cut for each in played),
    )


def _play_side_by_side(
    environment: Environment, act: Act, seeds: Sequence[int], keep: int
) -> Episodes:
    with ExitStack() as stack:
        envs = [stack.enter_context(environment.opened(RewardMeter)) for _ in seeds]
        episodes = [Episode(environment, *pair) for pair in zip(envs, seeds, strict=True)]
        running = episodes
        state: FrameHistory | None = None
        kept = _EvenlySpaced(keep)
        while running:
            together = batch([episode.observation for episode in running])
            kept.offer((together, state), len(running))
            actions, state = act(together, state)
            for episode, action in zip(running, actions, strict=True):
                episode.step(action)
            rows = [row for row, episode in enumerate(running) if not episode.ended]
            running = [running[row] for row in rows]
            state = state and tuple(array[rows] for array in state)
        returns = np.array([episode.total for episode in episodes])
        return Episodes(returns, tuple(kept.batches), sum(episode.cut for episode in episodes))


class _EvenlySpaced:
    """Keeps every k-th batch, where k doubles each time that twice the wanted rows are there.

    Args:
        rows: Number of rows to keep at least, if as many are offered.
    """

    def __init__(self, rows: int) -> None:
        self.batches: list[tuple[Observation, FrameHistory | None]] = []
        self._sizes: list[int] = []
        self._wanted, self._every, self._offered = rows, 1, 0

    def offer(self, batch: tuple[Observation, FrameHistory | None], size: int) -> None:
        """Keep a batch of ``size`` rows if it is its turn. Batches never grow."""
        if self._wanted and self._offered % self._every == 0:
            self.batches.append(batch)
            self._sizes.append(size)
            if sum(self._sizes) >= 2 * self._wanted:
                del self.batches[1::2], self._sizes[1::2]
                self._every *= 2
        self._offered += 1


def batch(observations: Sequence[Any]) -> Observation:
    """Stack observations along a new first axis."""
    if isinstance(observations[0], Mapping):
        return {key: np.stack([each[key] for each in observations]) for key in observations[0]}
    return np.stack(observations)
