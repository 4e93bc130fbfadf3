"""Wrappers whose state outlives an episode are found; others pass."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from gymnasium.envs.registration import WrapperSpec
from gymnasium.utils import seeding
from gymnasium.wrappers.utils import RunningMeanStd

from tests.train.registration import register
from trpo_deploy.envs.environment import Environment
from trpo_deploy.errors import ConfigError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train import load_config, train
from trpo_deploy.train.run.environments import make_training_env
from trpo_deploy.train.vec_env.lasting_state import check_lasting_state, refuse_running_statistics

Wrapper = gymnasium.Wrapper[Any, Any, Any, Any]


def check(wrapper: Any, env_id: str = "Pendulum-v1", **kwargs: Any) -> list[str]:
    """The notes about a wrapper of this module, or a named one."""
    name = wrapper if isinstance(wrapper, str) else f"{__name__}:{wrapper.__name__}"
    notes: list[str] = []
    check_all(Environment(env_id, env_wrapper=[{name: kwargs}]), notes.append)
    return notes


def check_all(environment: Environment, note: Callable[[str], None]) -> None:
    refuse_running_statistics(environment)
    with environment.opened() as env:
        check_lasting_state(environment, env, note)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("gymnasium.wrappers:NormalizeObservation", "norm_obs: true, norm_reward: false"),
        ("gymnasium.wrappers.NormalizeReward", "norm_obs: false, norm_reward: true"),
        (
            "gymnasium.wrappers.stateful_observation:NormalizeObservation",
            "norm_obs: true, norm_reward: false",
        ),
        ("gymnasium.wrappers.vector:NormalizeObservation", "norm_obs: true, norm_reward: false"),
        (f"{__name__}:Renamed", "norm_obs: true, norm_reward: false"),
    ],
)
def test_running_statistics_of_known_wrappers_are_refused(name: str, instead: str) -> None:
    with pytest.raises(ConfigError, match=rf"use --set 'normalize={{{instead}}}'"):
        check(name)


class Renamed(wrappers.NormalizeObservation):
    """A subclass under another name."""


def test_they_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "run")
    config = load_config(
        "Pendulum-v1", settings=["env_wrapper=gymnasium.wrappers.NormalizeObservation"]
    )
    with pytest.raises(ConfigError, match="NormalizeObservation around Pendulum-v1"):
        train(config, folder)
    assert not folder.root.exists()


def test_they_are_refused_where_the_environment_itself_applies_them() -> None:
    gymnasium.register(
        "Normalized-v0",
        "gymnasium.envs.classic_control:PendulumEnv",
        additional_wrappers=(
            WrapperSpec(
                "NormalizeObservation",
                "gymnasium.wrappers:NormalizeObservation",
                {"epsilon": 1e-8},
            ),
        ),
    )
    with pytest.raises(ConfigError, match="NormalizeObservation around Normalized-v0"):
        check_all(Environment("Normalized-v0"), lambda _: None)


def test_a_run_with_a_wrapper_that_keeps_a_state_does_not_start() -> None:
    config = load_config("Pendulum-v1", settings=[f"env_wrapper={__name__}:RunningNorm"])
    with pytest.raises(ConfigError, match=r"RunningNorm around Pendulum-v1 has state that reset"):
        make_training_env(config)


class RunningNorm(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Somebody's own normalizer."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        made: Any = RunningMeanStd
        self.statistics = made(shape=env.observation_space.shape)

    def observation(self, observation: Any) -> Any:
        self.statistics.update(observation[None])
        return (observation - self.statistics.mean) / np.sqrt(self.statistics.var + 1e-8)


class Largest(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Scales by the largest observation of the earlier episodes."""

    largest, seen = 1.0, 1.0

    def reset(self, **kwargs: Any) -> Any:
        self.largest = self.seen
        return super().reset(**kwargs)

    def observation(self, observation: Any) -> Any:
        self.seen = max(self.seen, float(np.abs(observation).max()))
        return observation / self.largest


class Learning(Wrapper):
    """Changes its state when an episode ends."""

    offset = 0.0

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            self.offset += 1e-3
        return observation + np.float32(self.offset), reward, terminated, truncated, info


class Closure(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Keeps its state in a closure."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        total = [0]

        def shifted(observation: Any) -> Any:
            total[0] += 1
            return observation + total[0]

        self.shifted = shifted

    def observation(self, observation: Any) -> Any:
        return self.shifted(observation)


class Annealed(gymnasium.ActionWrapper[Any, Any, Any]):
    """Limits actions less and less."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.steps = 0

    def action(self, action: Any) -> Any:
        self.steps += 1
        return action * min(1.0, self.steps / 1e6)


class Smoothed(gymnasium.ActionWrapper[Any, Any, Any]):
    """A filter that does not start again."""

    last = np.zeros(1, np.float32)

    def action(self, action: Any) -> Any:
        self.last = np.float32(0.9) * self.last + np.float32(0.1) * action
        return self.last


class Drifting(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Drops its state only when it is reset with a seed."""

    drift = 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self.drift = 0.0
        return super().reset(seed=seed, options=options)

    def observation(self, observation: Any) -> Any:
        self.drift += 0.01
        return observation + np.float32(self.drift)


class Clock(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Its observations depend on the time of the reset."""

    bias = np.float32(0)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.bias = np.float32(time.perf_counter() % 1)
        return super().reset(seed=seed, options=options)

    def observation(self, observation: Any) -> Any:
        return observation + self.bias


@pytest.mark.parametrize(
    ("wrapper", "says"),
    [
        (RunningNorm, r"\(statistics.count, statistics.mean, statistics.var\) and that changes "),
        (Largest, r"\(largest, seen\) and that changes the observations"),
        (Learning, r"\(offset\) and that changes the observations"),
        (Closure, r"keeps and that changes the observations"),
        (Annealed, r"\(steps\) and that changes the actions"),
        (Smoothed, r"\(last\) and that changes the actions"),
        (Drifting, r"\(drift\) and that changes the observations"),
        (Clock, r"\(bias\) and that changes .* random numbers come from self\.np_random"),
    ],
)
def test_state_of_other_wrappers_is_named(wrapper: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=f"{wrapper.__name__} around Pendulum-v1.*{says}"):
        check(wrapper)


class Shaped(gymnasium.RewardWrapper[Any, Any]):
    """A bonus that becomes smaller during the training."""

    steps = 0

    def reward(self, reward: Any) -> float:
        self.steps += 1
        return float(reward) + 1 / self.steps


def test_state_that_changes_rewards_only_gives_a_note() -> None:
    (note,) = check(Shaped)
    assert "Shaped around Pendulum-v1" in note
    assert "(steps)" in note


class Noisy(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Adds noise from a generator of its own, and from those of the process."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.sources: list[Any] = [np.random.default_rng(3), np.random.RandomState(4)]
        self.last_noise = 0.0

    def observation(self, observation: Any) -> Any:
        self.last_noise = sum(float(source.normal()) for source in self.sources)
        return observation + np.float32(self.last_noise + np.random.normal())


class Biased(Clock):
    """A bias in each episode, from a generator that most resets make without a seed."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.bias = np.float32(np.random.default_rng(seed).normal())
        return self.env.reset(seed=seed, options=options)


class Reseeded(Clock):
    """The same with Gymnasium's function, and as an attribute."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.rng, _ = seeding.np_random(seed)
        self.bias = np.float32(self.rng.normal())
        return self.env.reset(seed=seed, options=options)


class Counting(Wrapper):
    """Counts, measures and caches, and changes nothing."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.total_steps, self.mean_reward = 0, 0.0
        self.last_returns: deque[float] = deque(maxlen=10)
        self.cache: dict[int, Any] = {}

    def step(self, action: Any) -> Any:
        self.total_steps += 1
        observation, reward, *others = self.env.step(action)
        self.mean_reward += (float(reward) - self.mean_reward) / self.total_steps
        self.last_returns.append(float(reward))
        self.cache[self.total_steps] = observation
        return observation, reward, *others


class Shortcut(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Reads the state of the environment itself."""

    def observation(self, observation: Any) -> Any:  # noqa: ARG002
        return np.array([*self.unwrapped.state, 0.0], np.float32)  # type: ignore[attr-defined]


class Failing(Wrapper):
    """Raises; the run reports it."""

    def step(self, action: Any) -> Any:
        raise RuntimeError(f"no {action}")


@pytest.mark.parametrize("wrapper", [Noisy, Biased, Reseeded, Counting, Shortcut, Failing])
def test_wrappers_without_lasting_state_pass(wrapper: Any) -> None:
    assert check(wrapper) == []


class Unrepeatable(gymnasium.Env[Any, Any]):
    """Ignores the seed."""

    observation_space, action_space = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
    clock = 0.0

    def reset(self, **_: Any) -> Any:
        return self._observation(), {}

    def step(self, _: Any) -> Any:
        return self._observation(), 0.0, False, False, {}

    def _observation(self) -> Any:
        self.clock += 1e-3
        return np.full(2, self.clock, np.float32)


def test_a_wrapper_of_an_environment_that_is_not_reproducible_passes() -> None:
    register("Unrepeatable-v0", Unrepeatable)
    assert check(Counting, "Unrepeatable-v0") == []


def test_random_numbers_of_the_process_are_the_same_afterwards() -> None:
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    check(Noisy)
    assert np.random.random() == expected


class Images(gymnasium.Env[Any, Any]):
    """Observes random images."""

    observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        return self._observation(), {}

    def step(self, _: Any) -> Any:
        return self._observation(), 0.0, False, False, {}

    def _observation(self) -> Any:
        return self.np_random.integers(0, 256, (8, 8, 3), np.uint8)


# Arguments of the wrappers that need some.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "DelayObservation": {"delay": 2},
    "DtypeObservation": {"dtype": np.float32},
    "FrameStackObservation": {"stack_size": 3},
    "TransformObservation": {
        "func": lambda x: 2 * x,
        "observation_space": spaces.Box(-20, 20, (3,)),
    },
    "ReshapeObservation": {"shape": (3, 1)},
    "RescaleObservation": {"min_obs": -1.0, "max_obs": 1.0},
    "TransformAction": {"func": lambda a: a / 2, "action_space": spaces.Box(-2, 2, (1,))},
    "RescaleAction": {"min_action": -1.0, "max_action": 1.0},
    "StickyAction": {"repeat_action_probability": 0.3},
    "RepeatAction": {"num_repeats": 3},
    "ClipReward": {"min_reward": -1.0, "max_reward": 1.0},
    "TransformReward": {"func": lambda r: r / 2},
    "TimeLimit": {"max_episode_steps": 7},
    "MaxAndSkipObservation": {"skip": 3},
    "DiscretizeObservation": {"bins": 5},
    "DiscretizeAction": {"bins": 5},
}
# Others need a screen, OpenCV, another framework, a Dict, or Atari.
_NOT_HERE = {
    "AddRenderObservation",
    "AddWhiteNoise",
    "ArrayConversion",
    "AtariPreprocessing",
    "FilterObservation",
    "HumanRendering",
    "JaxToNumpy",
    "JaxToTorch",
    "NumpyToTorch",
    "ObstructView",
    "RecordVideo",
    "RenderCollection",
    "ResizeObservation",
}
_LEARN = {"NormalizeObservation", "NormalizeReward"}
GYMNASIUMS = sorted(
    {
        name
        for name, found in inspect.getmembers(wrappers, inspect.isclass)
        if issubclass(found, gymnasium.Wrapper)
    }
    - _NOT_HERE
)


@pytest.fixture
def found_by_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known wrappers are judged by what they do, not by their names."""
    module = importlib.import_module("trpo_deploy.train.vec_env.lasting_state")
    for table in ("STATISTICS", "WITHOUT_EFFECT"):
        monkeypatch.setattr(module, table, {})
    monkeypatch.setattr(module, "is_known_wrapper", lambda _: False)


@pytest.mark.usefixtures("found_by_replay")
@pytest.mark.parametrize("name", GYMNASIUMS)
def test_of_gymnasiums_wrappers_only_the_normalizers_are_found(name: str) -> None:
    register("Images-v0", Images)
    env_id = "Images-v0" if name == "GrayscaleObservation" else "Pendulum-v1"
    found = []
    try:
        found += check(f"gymnasium.wrappers:{name}", env_id, **_ARGUMENTS.get(name, {}))
    except ConfigError as error:
        found.append(str(error))
    assert bool(found) == (name in _LEARN), found


@pytest.mark.usefixtures("found_by_replay")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sb3_contrib.common.wrappers:TimeFeatureWrapper", {}),
        ("stable_baselines3.common.atari_wrappers:ClipRewardEnv", {}),
        ("stable_baselines3.common.atari_wrappers:MaxAndSkipEnv", {"skip": 2}),
    ],
)
def test_wrappers_of_stable_baselines_pass(name: str, arguments: dict[str, Any]) -> None:
    assert check(name, **arguments) == []


_RL_ZOOS = """
from trpo_deploy.train.vec_env import lasting_state
from tests.train.vec_env.test_lasting_state import check

lasting_state.is_known_wrapper = lambda _: False
for name, arguments in {
    "ActionNoiseWrapper": {},
    "ActionSmoothingWrapper": {},
    "DelayedRewardWrapper": {"delay": 3},
    "FrameSkip": {"skip": 3},
    "HistoryWrapper": {"horizon": 2},
    "TimeFeatureWrapper": {},
}.items():
    assert check(f"rl_zoo3.wrappers:{name}", **arguments) == [], name
"""


@pytest.mark.skipif(find_spec("rl_zoo3") is None, reason="needs rl_zoo3")
def test_wrappers_of_rl_zoo_pass() -> None:
    # In a process of its own: the import replaces Gymnasium's TimeLimit.
    subprocess.run([sys.executable, "-c", _RL_ZOOS], check=True)
