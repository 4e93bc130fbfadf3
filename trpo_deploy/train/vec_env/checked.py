"""Reports which environment failed, at which step and how."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from trpo_deploy.envs.environment import FAILURES, layers_of
from trpo_deploy.envs.episode import batch, observation_problem
from trpo_deploy.errors import EnvError
from trpo_deploy.train.mlp.step_arithmetic import fastest
from trpo_deploy.train.vec_env.environment_state import environment_state, restore_environment
from trpo_deploy.train.vec_env.episode_monitor import EpisodeMonitor
from trpo_deploy.train.vec_env.outside_state import outside_state

_FAILURE = "trpo_deploy.failure"
_finite = fastest.finite


class ReportingEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Reports an exception of the environment in ``info`` instead of raising it.

    In a ``SubprocVecEnv`` an exception ends the worker, and its owner only learns that a pipe was
    closed. The report reaches the owner's process as any other ``info``, and
    :class:`CheckedVecEnv` raises it there.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        monitors = (layer for layer in layers_of(env) if isinstance(layer, EpisodeMonitor))
        self._monitor = next(monitors, None)
        self._last_step: Any = None
        self._outside: dict[str, int] | None = None
        space = env.observation_space
        # A batch of integers truncates what it is given, NaN too, so its values are checked here.
        real = isinstance(space, spaces.Box) and space.dtype.kind == "f"
        self._usual_shape = space.shape if real else None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode; after a failure, return a random observation and the report."""
        try:
            observation, info = self.env.reset(**kwargs)
            self._report_episode()
            problem = self._problem(observation, info)
        except FAILURES as error:
            problem = _describe("reset", error)
        if problem is not None:
            return self.observation_space.sample(), {_FAILURE: problem}
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step; after a failure, return a random observation and the report."""
        try:
            result = self._last_step = self.env.step(action)
            problem = self._problem(result[0], result[4])
        except FAILURES as error:
            problem = _describe("step", error)
        if problem is None:
            return result
        return self.observation_space.sample(), 0.0, False, False, {_FAILURE: problem}

    def _report_episode(self) -> None:
        """Add the episode to the info of its last step, where the wrappers ended or dropped it.

        Vectorized environments reset an environment before they pass on its last info.
        """
        if self._monitor is None:
            return
        completed, last = self._monitor.take_completed(), self._last_step
        self._last_step = None
        if completed is not None and last is not None and (last[2] or last[3]):
            last[4].setdefault("episode", completed)

    def close(self) -> None:
        """Close the environment; errors are ignored, since training is over."""
        with suppress(Exception):
            super().close()

    def _problem(self, observation: Any, info: Any) -> str | None:
        if not isinstance(info, dict):
            return f"its info is a {type(info).__name__}, not a dict"
        # Fast path; CheckedVecEnv checks for finite values in all environments together.
        is_array = type(observation) is np.ndarray and observation.dtype.kind == "f"
        if is_array and observation.shape == self._usual_shape:
            return None
        return observation_problem(observation, self.observation_space)

    def checkpoint_state(self) -> bytes | None:
        """See :func:`~trpo_deploy.train.vec_env.environment_state.environment_state`.

        None also if the environment keeps state where it cannot be restored; it is compared with
        the first call, when no step has been made.
        """
        outside = outside_state(self.env)
        if self._outside is None:
            self._outside = outside
        if outside is None or outside != self._outside:
            return None
        return environment_state(self.env)

    def restore_state(self, state: bytes) -> None:
        """See :func:`~trpo_deploy.train.vec_env.environment_state.restore_environment`."""
        restore_environment(self.env, state)


def _describe(method: str, error: BaseException) -> str:
    reason = " ".join(str(error).split())
    return f"{method}() raised {type(error).__name__}" + (f": {reason}" if reason else "")


def _usual(observations: Any) -> bool:
    """Whether the observations are one finite array; a fast check of the usual case."""
    is_array = type(observations) is np.ndarray and observations.dtype.kind == "f"
    return is_array and bool(_finite(observations))


class CheckedVecEnv(VecEnvWrapper):
    """Raises reported failures, and refuses observations and rewards that are not finite.

    Args:
        venv: The environments.
        env_id: The environment's id, for messages.
        first: Index of the first environment among those of all ranks.
        n_all: Number of environments of all ranks; None for those of ``venv``.

    Raises:
        EnvError: From ``reset`` and ``step_wait``, with the environment, the step and the key.
    """

    def __init__(self, venv: VecEnv, env_id: str, first: int = 0, n_all: int | None = None) -> None:
        super().__init__(venv)
        self._env_id = env_id
        self._first, self._n_all = first, n_all or venv.num_envs
        self._steps = 0

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed all environments: environment ``i`` of all ranks gets ``seed + i``."""
        return self.venv.seed(None if seed is None else seed + self._first)

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        observations = self.venv.reset()
        self._check_reports(self.venv.reset_infos)
        self._check_observations(observations)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Finish a step."""
        self._steps += 1
        try:
            observations, rewards, dones, infos = self.venv.step_wait()
        except (EOFError, ConnectionError) as error:
            raise EnvError(
                f"{self._env_id}: the process of an environment ended at step {self._steps}; check "
                "the system log, it may have run out of memory"
            ) from error
        self._check_reports(infos)
        for i, done in enumerate(dones.tolist()):
            if done:
                self._check_reports([self.venv.reset_infos[i]], first=i)
                final = infos[i].get("terminal_observation")
                if final is not None and not _usual(final):
                    self._check_observations(batch([final]), first=i)
        if not (_usual(observations) and _finite(rewards)):
            self._check_observations(observations)
            self._check_finite(rewards, "the reward", 0)
        return observations, rewards, dones, infos

    def _check_reports(self, infos: Any, first: int = 0) -> None:
        for i, info in enumerate(infos, start=first):
            if _FAILURE in info:
                self._fail(i, info[_FAILURE])

    def _check_observations(self, observations: Any, first: int = 0) -> None:
        if isinstance(self.observation_space, spaces.Dict):
            for key, values in observations.items():
                self._check_finite(values, f"the observation {key!r}", first)
        else:
            self._check_finite(observations, "the observation", first)

    def _check_finite(self, values: Any, what: str, first: int) -> None:
        if values.dtype.kind != "f" or _finite(values):
            return
        rows = values.reshape(len(values), -1)
        with np.errstate(over="ignore"):
            finite = np.isfinite(rows.astype(np.float32))
        i, place = (int(index) for index in np.argwhere(~finite)[0])
        where = "" if rows.shape[1] == 1 else f" at index {place}"
        self._fail(first + i, f"{what} is {rows[i, place]}{where}")

    def _fail(self, i: int, reason: str) -> None:
        raise EnvError(
            f"{self._env_id}: environment {self._first + i} of {self._n_all} failed at its step "
            f"{self._steps}: {reason}; a policy cannot learn from this, check the environment"
        )
