"""An environment with a restored state continues exactly as the original."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor

from tests.train.environments import RandomEnv
from trpo_deploy.envs.wrappers import wrap
from trpo_deploy.train.vec_env.environment_state import environment_state, restore_environment

CLASSIC = [
    "Acrobot-v1",
    "CartPole-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
]
MUJOCO = ["Ant-v5", "HalfCheetah-v5", "Humanoid-v5", "Reacher-v5", "InvertedDoublePendulum-v5"]
Env = gymnasium.Env[Any, Any]


def _pair(make: Any) -> tuple[Env, Env]:
    """Two equal environments; the second gets the state of the first in its third episode."""
    first, second = Monitor(make()), Monitor(make())
    first.action_space.seed(0)
    first.reset(seed=1)
    second.reset(seed=2)
    second.step(second.action_space.sample())
    for _ in range(2):
        first.reset()
        for _ in range(7):
            if any(first.step(first.action_space.sample())[2:4]):
                first.reset()
    state = environment_state(first)
    assert state is not None
    restore_environment(second, state)
    return first, second


def _assert_same_steps(first: Env, second: Env) -> None:
    for _ in range(250):  # through ends of episodes
        action = first.action_space.sample()
        ours, theirs = first.step(action), second.step(action)
        for name, a, b in zip(("observation", "reward"), ours, theirs, strict=False):
            np.testing.assert_equal(a, b, err_msg=name)
        assert ours[2:4] == theirs[2:4]
        assert ours[4].get("episode", {}).get("r") == theirs[4].get("episode", {}).get("r")
        if ours[2] or ours[3]:
            np.testing.assert_equal(first.reset()[0], second.reset()[0])


@pytest.mark.parametrize("env_id", CLASSIC)
def test_classic_control_continues_exactly(env_id: str) -> None:
    _assert_same_steps(*_pair(lambda: gymnasium.make(env_id)))


@pytest.mark.parametrize("env_id", MUJOCO)
def test_mujoco_continues_exactly(env_id: str) -> None:
    pytest.importorskip("mujoco")
    _assert_same_steps(*_pair(lambda: gymnasium.make(env_id)))


def test_the_random_generators_of_spaces_are_restored() -> None:
    def make() -> Env:
        space = spaces.Dict({"a": spaces.Box(0, 1, (2,)), "b": spaces.Discrete(9)})
        return RandomEnv(spaces.Discrete(3), space)

    _assert_same_steps(*_pair(make))


def test_stacked_frames_continue_exactly() -> None:
    _assert_same_steps(*_pair(lambda: wrap(gymnasium.make("Pendulum-v1"), None, 3)))


class Opaque(RandomEnv):
    """Holds hidden state."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))
        self.world = object()


class Simulated(RandomEnv):
    """Keeps its simulation under the name of a wrapper's environment."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))
        self.env = gymnasium.make("CartPole-v1")


class Counting(RandomEnv):
    """Keeps a subclass of dict."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))
        self.visits: Counter[int] = Counter()


class Masked(RandomEnv):
    """Keeps a subclass of array."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))
        self.seen = np.ma.masked_array([1.0, 2.0], mask=[True, False])


def counted() -> Env:
    """A wrapper whose function counts its calls."""
    calls = [0]

    def reward(value: Any) -> Any:
        calls[0] += 1
        return value * calls[0]

    return gymnasium.wrappers.TransformReward(RandomEnv(spaces.Discrete(2)), reward)


@pytest.mark.parametrize("make", [Opaque, Simulated, Counting, Masked, counted])
def test_an_environment_with_hidden_state_has_no_state(make: Any) -> None:
    env = make()
    env.reset(seed=0)
    assert environment_state(env) is None


def test_gymnasiums_wrappers_and_functions_without_closure_continue_exactly() -> None:
    def make() -> Env:
        clipped = gymnasium.wrappers.ClipReward(gymnasium.make("Pendulum-v1"), -9, 0)
        return gymnasium.wrappers.TransformReward(clipped, lambda reward: 0.1 * float(reward))

    _assert_same_steps(*_pair(make))


class Known(RandomEnv):
    """Has two names for one of its parts."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(3))
        self.agents = [{"place": np.zeros(3, np.float32)}, {"place": np.ones(3, np.float32)}]
        self.me = self.agents[0]

    def step(self, action: Any) -> Any:
        self.me["place"] += action
        return self.agents[0]["place"].copy(), *super().step(action)[1:]


def test_one_object_under_two_names_stays_one_object() -> None:
    first, second = _pair(Known)
    assert second.unwrapped.me is second.unwrapped.agents[0]  # type: ignore[attr-defined]
    _assert_same_steps(first, second)


def test_an_environment_with_a_view_of_its_array_has_no_state() -> None:
    env = RandomEnv(spaces.Discrete(2))
    env.reset(seed=0)
    assert environment_state(env) is not None
    env.state = np.zeros(3)  # type: ignore[attr-defined]
    env.pos = env.state[:2]  # type: ignore[attr-defined]
    assert environment_state(env) is None


def test_an_environment_with_a_data_set_has_no_state() -> None:
    env = RandomEnv(spaces.Discrete(2))
    env.prices = np.zeros(3_000_000)  # type: ignore[attr-defined]
    assert environment_state(env) is None
