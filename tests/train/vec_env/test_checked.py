"""A failing environment is reported with its index, the step and the reason."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.train.environments import RandomEnv
from tests.train.vec_env.helpers import make
from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import play
from trpo_deploy.errors import EnvError


class Failing(RandomEnv):
    """Fails at its fifth step, if it is the second environment of a run."""

    def __init__(self, how: str) -> None:
        keys = spaces.Dict({"speed": spaces.Box(-1, 1, (2,)), "lamp": spaces.Discrete(2)})
        super().__init__(spaces.Discrete(2), keys, length=1000)
        self.how = how
        self.second = False

    def reset(self, *, seed: int | None = None, **_: Any) -> Any:
        if seed is not None:
            self.second = seed % 10 == 1
        ended = self.how == "second reset" and self.steps == 5
        if self.second and (self.how == "reset" or ended):
            raise RuntimeError("no\nroad")
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        info: Any
        observation, reward, _, truncated, info = super().step(action)
        if self.steps == 5 and self.second:
            if self.how == "raise":
                raise ZeroDivisionError("the wheel came off")
            if self.how == "exit":
                raise SystemExit(3)
            if self.how == "nan":
                observation["speed"][1] = np.nan
            if self.how == "huge":
                observation["speed"][:] = 1e30  # its square overflows float32
            if self.how == "shape":
                observation["speed"] = np.zeros(3, np.float32)
            if self.how == "key":
                del observation["lamp"]
            if self.how == "nothing":
                observation = None
            if self.how == "reward":
                reward = float("-inf")
            if self.how == "info":
                info = None
            if self.how == "nan at the end":
                observation["speed"][1] = np.nan
            if self.how in ("nan at the end", "second reset"):
                return observation, reward, True, False, info
        return observation, reward, False, truncated, info


gymnasium.register("Failing-v0", f"{__name__}:Failing", disable_env_checker=True)


@pytest.mark.parametrize("kind", ["sync", "subproc"])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raise", "its step 5: step() raised ZeroDivisionError: the wheel came off"),
        ("exit", "its step 5: step() raised SystemExit: 3"),
        ("nan", "its step 5: the observation 'speed' is nan at index 1"),
        ("reward", "its step 5: the reward is -inf"),
        ("reset", "its step 0: reset() raised RuntimeError: no road"),
        ("shape", "its step 5: the observation 'speed' has the shape (3,), not (2,)"),
        ("key", "its step 5: the observation has no key 'lamp'"),
        ("nothing", "its step 5: the observation is a NoneType, not a mapping"),
        ("info", "its step 5: its info is a NoneType, not a dict"),
        ("nan at the end", "its step 5: the observation 'speed' is nan at index 1"),
        ("second reset", "its step 5: reset() raised RuntimeError: no road"),
    ],
)
def test_a_failure_is_reported(kind: str, how: str, says: str) -> None:
    settings = ["policy=MultiInputPolicy"]
    env_args = [f"how={how}"]
    env = make(
        "tests.train.vec_env.test_checked:Failing-v0", kind, env_args=env_args, settings=settings
    )

    def play() -> None:
        env.reset()
        for _ in range(9):
            env.step(np.zeros(2, dtype=np.int64))

    with pytest.raises(EnvError) as caught:
        play()
    env.close()
    assert "Failing-v0: environment 1 of 2" in str(caught.value)
    assert says in str(caught.value)


class Falls(RandomEnv):
    """The last observation of an episode is NaN."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2), length=5)

    def step(self, action: Any) -> Any:
        observation, reward, _, truncated, info = super().step(action)
        return observation * (np.nan if truncated else 1), reward, truncated, False, info


gymnasium.register("Falls-v0", f"{__name__}:Falls", disable_env_checker=True)


@pytest.mark.parametrize("kind", ["sync", "subproc"])
def test_the_last_observation_of_an_episode_is_checked(kind: str) -> None:
    env = make("tests.train.vec_env.test_checked:Falls-v0", kind)
    env.reset()
    for _ in range(4):
        env.step(np.zeros(2, dtype=np.int64))
    with pytest.raises(EnvError, match="its step 5: the observation is nan at index 0"):
        env.step(np.zeros(2, dtype=np.int64))
    env.close()


@pytest.mark.filterwarnings("error")
def test_large_finite_values_are_accepted() -> None:
    settings = ["policy=MultiInputPolicy"]
    env = make(
        "tests.train.vec_env.test_checked:Failing-v0",
        "sync",
        env_args=["how=huge"],
        settings=settings,
    )
    env.reset()
    largest = [env.step(np.zeros(2, dtype=np.int64))[0]["speed"].max() for _ in range(9)]
    assert np.argmax(largest) == 4
    assert max(largest) == np.float32(1e30)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("raise", "of seed 1 at step 5: step() raised ZeroDivisionError: the wheel came off"),
        ("exit", "of seed 1 at step 5: step() raised SystemExit: 3"),
        ("nan", "of seed 1 at step 5: the observation 'speed' is nan at index 1"),
        ("reward", "of seed 1 at step 5: the reward is -inf"),
        ("reset", "of seed 1 at step 0: reset() raised RuntimeError: no road"),
        ("shape", "the observation 'speed' has the shape (3,), not (2,)"),
    ],
)
def test_a_failure_is_reported_when_a_policy_is_played(how: str, says: str) -> None:
    environment = Environment("Failing-v0", {"how": how})

    def act(observations: Any, state: Any) -> Any:
        return np.zeros(len(observations["lamp"]), int), state

    with pytest.raises(EnvError, match="Failing-v0") as caught:
        play(environment, act, [0, 1])
    assert says in str(caught.value)


class Strange(RandomEnv):
    """Its observations are outside of its space."""

    def __init__(self, kind: str) -> None:
        box = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        multi, whole = spaces.MultiDiscrete([2, 3]), spaces.Box(0, 9, (2,), np.int64)
        space = {"discrete": spaces.Discrete(3), "multi": multi, "real": multi, "nan": whole}
        super().__init__(spaces.Discrete(2), space.get(kind, box))
        wrong = {"discrete": 3, "multi": np.array([1, 3]), "text": np.array(["a", "b"])}
        wrong |= {"objects": np.array([None, 1]), "ragged": [1.0, [2.0]]}
        wrong |= {"real": np.array([1.0, 3.0]), "nan": np.array([np.nan, 1.0])}
        self.wrong = wrong.get(kind, np.array([0.0, 1e300]))

    def step(self, action: Any) -> Any:
        return self.wrong, *super().step(action)[1:]


gymnasium.register("Strange-v0", f"{__name__}:Strange", disable_env_checker=True)


@pytest.mark.parametrize("how", ["sync", "subproc"])
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("discrete", r"is 3, outside of Discrete\(3\)"),
        ("multi", r"is \[1 3\], outside of MultiDiscrete"),
        ("real", r"is \[1\. 3\.\], outside of MultiDiscrete"),
        ("nan", r"is nan at index 0"),
        ("text", "not an array of numbers"),
        ("objects", "not an array of numbers"),
        ("ragged", r"step\(\) raised ValueError"),
        ("huge", r"is 1e\+300 at index 1"),
    ],
)
def test_an_observation_outside_of_the_space_is_refused(how: str, kind: str, says: str) -> None:
    env = make("tests.train.vec_env.test_checked:Strange-v0", how, env_args=[f"kind={kind}"])
    env.reset()
    with pytest.raises(EnvError, match=says):
        env.step(np.zeros(2, dtype=np.int64))
    env.close()
