"""Every kind of vectorized environment gives the same information."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from tests.train.environments import RandomEnv
from tests.train.vec_env.helpers import KINDS, make
from trpo_deploy.envs.episode import MAX_EPISODE_STEPS
from trpo_deploy.envs.wrappers import wrap
from trpo_deploy.errors import ConfigError
from trpo_deploy.train import TRPO, load_config
from trpo_deploy.train.run.environments import make_evaluation_env, make_training_env


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_cut_by_the_time_limit_is_truncated(kind: str) -> None:
    env = make("Pendulum-v1", kind, normalize=False)
    observations, rewards = [env.reset().copy()], []
    for step in range(201):
        obs, reward, done, infos = env.step(np.full((2, 1), 0.5, np.float32))
        observations.append(obs.copy())
        rewards.append(reward.copy())
        assert done.all() == (step == 199)
        if step == 199:
            break
    for i, info in enumerate(infos):
        assert info["TimeLimit.truncated"] is True
        final = info["terminal_observation"]
        assert np.linalg.norm(final - observations[199][i]) < 2  # one step later
        assert abs(final[2]) > 1.5 or np.linalg.norm(final - obs[i]) > 1e-3
        assert abs(obs[i][2]) <= 1  # a first observation has a speed of at most one
        assert info["episode"]["l"] == 200
        assert info["episode"]["r"] == pytest.approx(np.sum([r[i] for r in rewards]), rel=1e-4)
    assert not env.step(np.zeros((2, 1), np.float32))[2].any()
    env.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_terminated_episode_is_not_truncated(kind: str) -> None:
    env = make("CartPole-v1", kind)
    env.reset()
    ended = []
    for _ in range(30):
        obs, _, done, infos = env.step(np.zeros(2, dtype=np.int64))
        for i in np.flatnonzero(done):
            ended.append(infos[i])
            assert np.abs(obs[i]).max() <= 0.05  # the next episode's start
            assert abs(infos[i]["terminal_observation"][2]) > 0.2
    assert len(ended) >= 4
    assert not any(info["TimeLimit.truncated"] for info in ended)
    lengths = [info["episode"]["l"] for info in ended]
    assert [info["episode"]["r"] for info in ended] == lengths
    assert sum(lengths) <= 60  # each counted from its own start
    env.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_return_is_bootstrapped_at_a_time_limit(kind: str) -> None:
    env = make("Pendulum-v1", kind, normalize=False)
    seen: dict[str, Any] = {}

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            if self.locals["dones"].any():
                seen["rewards"] = self.locals["rewards"].copy()
                seen["final"] = np.stack(
                    [info["terminal_observation"] for info in self.locals["infos"]]
                )
            return True

    model = TRPO("MlpPolicy", env, n_steps=200, batch_size=400, seed=0, gamma=0.9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "train", lambda: None)
        model.learn(400, callback=Watch())
    values = model.policy.predict_values(model.policy.obs_to_tensor(seen["final"])[0])
    expected = seen["rewards"] + 0.9 * values.detach().numpy()[:, 0]
    np.testing.assert_allclose(model.rollout_buffer.rewards[-1], expected, rtol=1e-5)
    env.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_determines_the_first_observations(kind: str) -> None:
    starts = []
    for seed in (1, 1, 2):
        env = make("CartPole-v1", kind, seed=seed)
        starts.append(env.reset())
        env.close()
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])
    assert not np.array_equal(starts[0][0], starts[0][1])


@pytest.mark.parametrize("kind", KINDS)
def test_seeding_again_repeats_the_first_observations(kind: str) -> None:
    env = make("CartPole-v1", kind, seed=2)
    starts: dict[int, list[Any]] = {1: [], 2: []}
    for i, seeds in enumerate(([2], [2], [1], [1], [1], [2, 1], [1, 2])):
        for seed in seeds:
            env.seed(seed)
        starts[seed].append(env.reset())
        if i % 2 == 1:
            env.step(np.zeros(2, np.int64))
    env.close()
    for same in starts.values():
        for start in same:
            np.testing.assert_array_equal(start, same[0])
    assert not np.array_equal(starts[1][0], starts[2][0])


def test_frames_are_stacked_as_sb3_stacks_them() -> None:
    sb3 = VecFrameStack(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]), 3)
    ours = wrap(gymnasium.make("Pendulum-v1"), None, 3)
    sb3.seed(4)
    first: Any = sb3.reset()
    np.testing.assert_array_equal(first[0], ours.reset(seed=4)[0])
    assert ours.observation_space.shape == sb3.observation_space.shape
    for _ in range(5):
        expected: Any = sb3.step(np.array([[0.3]], np.float32))[0]
        np.testing.assert_array_equal(expected[0], ours.step(np.array([0.3], np.float32))[0])


def test_a_wrapper_is_applied_by_name() -> None:
    settings = [
        "normalize=false",
        "env_wrapper=[{gymnasium.wrappers.TimeLimit: {max_episode_steps: 7}}]",
    ]
    env = make_training_env(load_config("Pendulum-v1", settings=settings, n_envs=1))
    env.reset()
    dones = [env.step(np.zeros((1, 1), np.float32))[2][0] for _ in range(8)]
    assert dones == [False] * 6 + [True, False]
    for wrapper, says in (
        ("{gymnasium.wrappers.TimeLimit: {max_episode_stops: 7}}", "max_episode_stops"),
        ("gymnasium.Nothing", "gymnasium:Nothing' cannot be imported"),
    ):
        config = load_config("Pendulum-v1", settings=[f"env_wrapper={wrapper}"])
        with pytest.raises(ConfigError, match=says):
            make_training_env(config)


class Counted(RandomEnv):
    """Counts its instances."""

    made = 0

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))
        Counted.made += 1


class Unknown(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A wrapper that is checked for lasting state."""


@pytest.mark.parametrize("wrappers", [[], [f"env_wrapper={__name__}:Unknown"]], ids=str)
def test_a_run_makes_one_environment_more_than_it_trains_in(
    wrappers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gymnasium.register("Counted-v0", f"{__name__}:Counted", disable_env_checker=True)
    monkeypatch.setattr(Counted, "made", 0)
    make_training_env(load_config("Counted-v0", settings=wrappers, n_envs=2))
    assert Counted.made == 3


class Endless(RandomEnv):
    """Its episodes do not end."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))

    def step(self, action: Any) -> Any:
        observation, _, _, _, info = super().step(action)
        return observation, 1.0, False, False, info


def test_an_endless_episode_is_truncated_in_an_evaluation() -> None:
    gymnasium.register("Endless-v0", f"{__name__}:Endless", disable_env_checker=True)
    config = load_config("Endless-v0", n_timesteps=64, eval_episodes=1)
    training = make_training_env(config)
    env = make_evaluation_env(config, training)
    env.reset()
    ends = [bool(env.step(np.zeros(1, int))[2][0]) for _ in range(MAX_EPISODE_STEPS)]
    assert ends.index(True) == MAX_EPISODE_STEPS - 1


def test_every_kind_is_monitored() -> None:
    for kind in KINDS:
        env = make("CartPole-v1", kind)
        assert env.env_is_wrapped(Monitor) == [True, True]
        env.close()
