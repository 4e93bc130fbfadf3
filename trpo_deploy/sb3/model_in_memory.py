"""A model in memory, played in a copy of its environment that records both ends of all wrappers.

What the innermost environment gives and what it is given are facts that need no reading of the
wrappers between. They show whether the exported file computes the same as all of these together.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import HumanRendering, NormalizeObservation, RecordVideo, RenderCollection
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize

from trpo_deploy.envs.environment import FAILURES
from trpo_deploy.envs.episode import Observation, batch
from trpo_deploy.errors import EnvError
from trpo_deploy.sb3.environment_in_memory import (
    AnyEnv,
    EnvironmentInMemory,
    base_env,
    gym_wrappers,
    has_effect,
)
from trpo_deploy.spec.spaces import Array

# They write files, or show windows.
_WITH_OUTPUT = (Monitor, RecordVideo, HumanRendering, RenderCollection)


@dataclass(frozen=True, eq=False)
class TappedStep:
    """One step of all environments, as the innermost ones saw it."""

    observations: Observation
    """What the environments gave, with a batch axis."""
    actions: Array
    """What they were given then, ``(environments, ...)``."""
    first: Array
    """Whether an observation is the first of its episode, bool ``(environments,)``."""


@dataclass(frozen=True, eq=False)
class ModelInMemory:
    """A model and its environment."""

    model: BaseAlgorithm
    environment: EnvironmentInMemory

    def play(self, rows: int, seed: int) -> list[TappedStep]:
        """Play ``model.predict`` in a copy of the model's environment.

        The model's own environment, its statistics and its files stay as they are. Of each
        innermost environment, the copy has a new one, made from its Gymnasium spec; a copy, if it
        has no spec.

        Args:
            rows: Number of observations to record.
            seed: Seed of the environments.

        Raises:
            EnvError: The environment cannot be copied, or fails.
        """
        with _failures_named(), _copied(self.environment) as (env, taps):
            env.seed(seed)
            observation: Any = env.reset()
            first = np.ones(env.num_envs, bool)
            steps = []
            for _ in range(math.ceil(rows / env.num_envs)):
                given = batch([tap.observation for tap in taps])
                actions, _ = self.model.predict(observation, deterministic=True)
                observation, _, done, _ = env.step(actions)
                taken = np.stack([np.asarray(tap.action) for tap in taps])
                steps.append(TappedStep(given, taken, first))
                first = done.copy()
            return steps


class _Tap(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Records the last observation of an environment, and the action before it."""

    observation: Any = None
    action: Any = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        self.observation = copy.deepcopy(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.action = copy.deepcopy(action)
        observation, *rest = self.env.step(action)
        self.observation = copy.deepcopy(observation)
        return (observation, *rest)


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except EnvError:
        raise
    except FAILURES as error:
        reason = " ".join(str(error).split())[:200]
        raise EnvError(
            f"the model's environment cannot be played in a copy ({type(error).__name__}: {reason})"
        ) from error


@contextmanager
def _copied(environment: EnvironmentInMemory) -> Iterator[tuple[VecEnv, list[_Tap]]]:
    """A copy of the environment with a tap at each environment that the file stands for."""
    base = base_env(environment.env)
    if not isinstance(base, DummyVecEnv):
        raise EnvError(f"a {type(base).__name__} cannot be copied; use a DummyVecEnv")
    memo: dict[int, Any] = {}
    made: list[AnyEnv] = []
    try:
        taps = [_copy_env(each, environment.depth, memo, made) for each in base.envs]
        yield _copy_vec_env(environment.env, memo), taps
    finally:
        for each in made:
            with suppress(*FAILURES):
                each.close()


def _copy_env(env: AnyEnv, depth: int, memo: dict[int, Any], made: list[AnyEnv]) -> _Tap:
    """Copy an environment into ``memo``, and return the tap in it.

    Args:
        env: One environment of a vec env.
        depth: Number of wrappers between the tap and what ``gymnasium.make`` returned.
        memo: ``copy.deepcopy``'s: the copy of each object, by its ``id``.
        made: Is extended by an environment that has to be closed.
    """
    outer = gym_wrappers(env)
    tapped = outer[depth - 1] if depth else outer[0].env if outer else env
    memo[id(env.unwrapped)] = _new_core(env.unwrapped, memo, made)
    chain = [env]
    while isinstance(chain[-1], gymnasium.Wrapper):
        chain.append(chain[-1].env)
    for each in reversed(chain):
        if isinstance(each, _WITH_OUTPUT):
            memo[id(each)] = memo[id(each.env)]
        elif isinstance(each, gymnasium.Wrapper):
            memo[id(each._cached_spec)] = each._cached_spec  # may hold what cannot be copied
            copy.deepcopy(each, memo)
        if isinstance(each, NormalizeObservation):
            memo[id(each)].update_running_mean = False
        if each is tapped:
            tap = memo[id(each)] = _Tap(memo[id(each)])
    return tap


def _new_core(core: AnyEnv, memo: dict[int, Any], made: list[AnyEnv]) -> AnyEnv:
    """A new environment of the same spec; without a spec, a copy."""
    if core.spec is None:
        return copy.deepcopy(core, memo)
    arguments = {"render_mode": None} if core.render_mode == "human" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own environment gave them already
        env: AnyEnv = gymnasium.make(core.spec, **arguments)
    made.append(env)
    return env.unwrapped


def _copy_vec_env(env: VecEnv, memo: dict[int, Any]) -> VecEnv:
    """Copy a vec env whose environments are in ``memo``, without the wrappers that only report."""
    if not isinstance(env, VecEnvWrapper):
        return copy.deepcopy(env, memo)
    inner = _copy_vec_env(env.venv, memo)
    if not has_effect(env):
        return inner
    # Not deepcopy(env): VecNormalize leaves its environment out, and the others recurse in
    # __getattr__ before they have one.
    copied = object.__new__(type(env))
    attributes = {name: each for name, each in vars(env).items() if name != "class_attributes"}
    vars(copied).update(copy.deepcopy(attributes, {**memo, id(env.venv): inner}))
    copied.class_attributes = env.class_attributes
    if isinstance(copied, VecNormalize):
        copied.training = False
    return copied
