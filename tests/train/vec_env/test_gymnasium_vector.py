"""A ``VectorEnv`` of Gymnasium trains as the same environments in SB3's ``DummyVecEnv``."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import NormalizeObservation, RecordEpisodeStatistics
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.train.environments import RandomEnv
from trpo_deploy import TRPO
from trpo_deploy.errors import EnvError
from trpo_deploy.train.vec_env.gymnasium_vector import GymnasiumVecEnv

N = 3


class Told(RandomEnv):
    """Its infos differ between steps and resets, and between environments."""

    def __init__(self, action: spaces.Space[Any], observation: spaces.Space[Any] | None) -> None:
        # Each environment draws from a space of its own.
        vector = spaces.Box(-1, 1, (3,))
        super().__init__(action, copy.deepcopy(observation or vector), length=7)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        observation, _ = super().reset(seed=seed, options=options)
        return observation, {"started": self.steps, "wind": np.full(2, self.np_random.random())}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        *result, _ = super().step(action)
        info: dict[str, Any] = {"nested": {"step": self.steps}, "name": f"step {self.steps}"}
        if self.steps % 2:
            info["odd"] = True
        return (*result, info)


KEYS = spaces.Dict({"speed": spaces.Box(-1, 1, (2,)), "lamp": spaces.Discrete(3)})
CASES: dict[str, tuple[str, spaces.Space[Any], spaces.Space[Any] | None]] = {
    "box": ("MlpPolicy", spaces.Box(-1, 1, (2,)), None),
    "discrete": ("MlpPolicy", spaces.Discrete(2, start=4), spaces.Discrete(5, start=2)),
    "dict": ("MultiInputPolicy", spaces.MultiDiscrete([2, 3]), KEYS),
}
VECTORS: dict[str, Callable[[list[Any]], VectorEnv[Any, Any, Any]]] = {
    **{
        mode.value: lambda makers, mode=mode: SyncVectorEnv(makers, autoreset_mode=mode)  # type: ignore[misc]
        for mode in AutoresetMode
    },
    "not copied": lambda makers: SyncVectorEnv(makers, copy=False),
    "recorded, SameStep": lambda makers: RecordEpisodeStatistics(
        SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    ),
    "recorded, NextStep": lambda makers: RecordEpisodeStatistics(SyncVectorEnv(makers)),
}


def makers_of(case: str) -> list[Callable[[], Told]]:
    _, action, observation = CASES[case]
    return [lambda: Told(action, observation)] * N


def learned(env: Any, policy: str) -> TRPO:
    model = TRPO(policy, env, n_steps=32, batch_size=32, n_critic_updates=2, seed=5)
    return model.learn(2 * 32 * N)


def assert_same_training(one: TRPO, other: TRPO) -> None:
    for name in ("observations", "actions", "rewards", "episode_starts", "values", "advantages"):
        np.testing.assert_equal(
            getattr(one.rollout_buffer, name), getattr(other.rollout_buffer, name), err_msg=name
        )
    torch.testing.assert_close(one.policy.state_dict(), other.policy.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("case", CASES)
def test_the_buffer_and_the_policy_are_those_of_dummy_vec_env(case: str, vector: str) -> None:
    policy, makers = CASES[case][0], makers_of(case)
    ours = learned(VECTORS[vector](makers), policy)
    theirs = learned(DummyVecEnv([lambda make=make: Monitor(make()) for make in makers]), policy)  # type: ignore[misc]
    assert_same_training(ours, theirs)
    assert ours.ep_info_buffer
    assert theirs.ep_info_buffer
    for name in ("r", "l"):
        expected = [episode[name] for episode in theirs.ep_info_buffer]
        # Monitor rounds to six digits; the rewards of a VecEnv are float32.
        assert [each[name] for each in ours.ep_info_buffer] == pytest.approx(expected, abs=1e-4)


def test_environments_in_other_processes_give_the_same() -> None:
    makers = [lambda: gymnasium.make("CartPole-v1", max_episode_steps=12)] * 2
    ours = AsyncVectorEnv(makers)
    models = [learned(env, "MlpPolicy") for env in (ours, DummyVecEnv(makers))]
    ours.close()
    assert_same_training(*models)


@pytest.mark.parametrize("vector", VECTORS)
def test_infos_are_those_of_dummy_vec_env(vector: str) -> None:
    makers = makers_of("dict")
    ours, theirs = GymnasiumVecEnv(VECTORS[vector](makers)), DummyVecEnv(list(makers))
    for env in (ours, theirs):
        env.seed(3)
        env.reset()
    np.testing.assert_equal(ours.reset_infos, theirs.reset_infos)
    for _ in range(20):
        actions = np.ones((N, 2), np.int64)
        (*our_step, our_infos), (*their_step, their_infos) = (
            env.step(actions) for env in (ours, theirs)
        )
        observation: Any = their_step[0]  # an OrderedDict
        np.testing.assert_equal(our_step, [dict(observation), *their_step[1:]])
        for info, done in zip(our_infos, our_step[2], strict=True):
            assert ("episode" in info) == done
            info.pop("episode", None)
        np.testing.assert_equal(our_infos, their_infos)
        np.testing.assert_equal(ours.reset_infos, theirs.reset_infos)


def test_environments_that_cannot_be_reset_one_by_one_are_refused() -> None:
    """Gymnasium's own vector environment of CartPole."""
    env = gymnasium.make_vec("CartPole-v1", 2)
    with pytest.raises(EnvError, match=r"CartPoleVectorEnv resets .* vectorization_mode='sync'"):
        learned(env, "MlpPolicy")


def test_a_wrapper_that_cannot_reset_one_environment_is_refused() -> None:
    vector = NormalizeObservation(SyncVectorEnv(makers_of("box")))
    model = TRPO("MlpPolicy", vector, n_steps=32, batch_size=32 * N)
    with pytest.raises(EnvError, match=r"NormalizeObservation .*SAME_STEP.* VecNormalize"):
        model.learn(32 * N)


def test_attributes_and_methods_reach_the_environments() -> None:
    env = GymnasiumVecEnv(SyncVectorEnv(makers_of("box")))
    env.set_attr("length", 4)
    env.set_attr("length", 6, indices=1)
    assert env.get_attr("length") == [4, 6, 4]
    assert env.get_attr("length", indices=[1]) == [6]
    assert env.env_is_wrapped(Monitor) == [False] * N
    with pytest.raises(ValueError, match="all environments only"):
        env.env_method("reset", indices=0)
    assert len(env.env_method("reset")) == N
    with pytest.raises(AttributeError, match=r"CartPoleVectorEnv has no get_attr\(\)"):
        GymnasiumVecEnv(gymnasium.make_vec("CartPole-v1", 2)).get_attr("gravity")


def test_a_saved_model_takes_a_vector_env_again(tmp_path: Path) -> None:
    model = learned(SyncVectorEnv(makers_of("box")), "MlpPolicy")
    model.save(tmp_path / "policy")
    vector: Any = SyncVectorEnv(makers_of("box"))
    loaded = TRPO.load(tmp_path / "policy", env=vector)
    loaded.learn(96)
    loaded.set_env(SyncVectorEnv(makers_of("box"), autoreset_mode=AutoresetMode.SAME_STEP))
    loaded.learn(96)
