"""Returns are those of the environment, and every episode is counted, whatever the wrappers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from tests.train.registration import register
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.play.evaluate import evaluate
from trpo_deploy.train import load_config, train
from trpo_deploy.train.run.environments import make_evaluation_env, make_training_env
from trpo_deploy.train.vec_env.environment_state import environment_state, restore_environment
from trpo_deploy.train.vec_env.episode_monitor import EpisodeMonitor

Wrapper = gymnasium.Wrapper[Any, Any, Any, Any]


class Counter(gymnasium.Env[Any, Any]):
    """Its k-th reward is k; an episode has twelve steps."""

    observation_space, action_space = spaces.Box(0, 12, (1,)), spaces.Discrete(2)

    def reset(self, **kwargs: Any) -> Any:
        super().reset(**kwargs)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, _: Any) -> Any:
        self.steps += 1
        observation = np.full(1, self.steps, np.float32)
        return observation, float(self.steps), self.steps == 12, False, {}


class Lives(Wrapper):
    """Ends what the policy sees as an episode every four steps, as ``EpisodicLifeEnv`` does."""

    ended, steps = True, 0

    def reset(self, **kwargs: Any) -> Any:
        self.steps = 0
        if self.ended:
            return self.env.reset(**kwargs)
        observation, _, _, _, info = self.env.step(0)
        return observation, info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.ended = terminated or truncated
        self.steps += 1
        return observation, reward, terminated or self.steps == 4, truncated, info


class Silent(Wrapper):
    """Drops the infos."""

    def step(self, action: Any) -> Any:
        return *self.env.step(action)[:4], {}


class Impatient(Wrapper):
    """Terminates an episode after seven steps, and makes one step at its start."""

    steps = 0

    def reset(self, **kwargs: Any) -> Any:
        self.steps = 0
        self.env.reset(**kwargs)
        return *self.env.step(0)[:1], {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or self.steps == 7, truncated, info


WRAPPERS: dict[str, tuple[Any, int]] = {
    "none": (None, 12),
    "clipped": ("stable_baselines3.common.atari_wrappers.ClipRewardEnv", 12),
    "scaled": ({f"{__name__}:Silent": {}}, 12),
    "limited": ({"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 7}}, 7),
    "impatient": ([f"{__name__}:Silent", f"{__name__}:Impatient"], 8),
    "lives": ([f"{__name__}:Lives", "gymnasium.wrappers:FlattenObservation"], 12),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    # Processes take seconds to start.
    [*((name, "sync") for name in WRAPPERS), ("limited", "subproc"), ("lives", "subproc")],
)
def test_the_return_of_an_episode_is_the_environments(name: str, kind: str) -> None:
    wrapper, length = WRAPPERS[name]
    config = load_config(
        f"{__name__}:Counter-v0",  # worker processes import the module
        n_envs=1,
        vec_env=kind,
        env_wrapper=wrapper,
    )
    env = make_training_env(config)
    env.reset()
    episodes = []
    for _ in range(3 * length):
        infos = env.step(np.zeros(1, np.int64))[3]
        episodes += [info["episode"] for info in infos if "episode" in info]
    env.close()
    assert len(episodes) >= 2
    for episode in episodes:
        assert episode["l"] == length
        assert episode["r"] == length * (length + 1) / 2


register("Counter-v0", Counter)


@pytest.mark.parametrize("name", WRAPPERS)
def test_an_evaluation_ends_and_has_the_environments_returns(name: str) -> None:
    wrapper, length = WRAPPERS[name]
    config = load_config("Counter-v0", eval_episodes=3, env_wrapper=wrapper, n_timesteps=64)
    training = make_training_env(config)
    env = make_evaluation_env(config, training)
    still: Any = _Still()
    returns, lengths = evaluate_policy(still, env, n_eval_episodes=3, return_episode_rewards=True)
    assert lengths == [length] * 3
    assert returns == [length * (length + 1) / 2] * 3


class _Still:
    """Always takes the first action."""

    def predict(self, observations: Any, **_: Any) -> Any:
        return np.zeros(len(observations), np.int64), None


def test_the_returns_of_a_run_with_clipped_rewards_are_the_environments(tmp_path: Path) -> None:
    config = load_config(
        "Pendulum-v1",
        settings=[
            "env_wrapper=stable_baselines3.common.atari_wrappers.ClipRewardEnv",
            "normalize=false",
            "n_steps=128",
        ],
        n_envs=1,
        n_timesteps=256,
        eval_episodes=2,
    )
    folder = ModelDir(tmp_path / "run")
    result = train(config, folder)
    assert result.last.mean < -250  # clipped, every return is -200
    played = evaluate(folder.root, backend="torch", episodes=2).returns
    assert played.mean() < -250


def test_the_state_of_an_earlier_version_is_restored() -> None:
    """There the monitor was the outermost wrapper."""

    def core() -> Any:
        return gymnasium.make("Pendulum-v1")

    old, new = Monitor(TimeLimit(core(), 50)), TimeLimit(EpisodeMonitor(core()), 50)
    old.reset(seed=1)
    for _ in range(5):
        old.step(np.ones(1, np.float32))
    state = environment_state(old)
    assert state is not None
    restore_environment(new, state)
    assert new.get_wrapper_attr("rewards") == old.rewards
    for _ in range(50):
        expected, found = (env.step(np.ones(1, np.float32)) for env in (old, new))
        np.testing.assert_array_equal(expected[0], found[0])
        assert expected[1:4] == found[1:4]
        if found[3]:
            break
    assert expected[3]
