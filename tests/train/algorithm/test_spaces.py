"""Spaces that SB3 does not support are translated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
import torch
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy

from tests.train.environments import MatchEnv, RandomEnv
from trpo_deploy import TRPO
from trpo_deploy.envs.space_translation import action_from_sb3, observation_to_sb3
from trpo_deploy.errors import SpaceError


def two_axes(nvec: list[list[int]], start: list[list[int]]) -> spaces.MultiDiscrete:
    return spaces.MultiDiscrete(np.array(nvec), start=np.array(start))


MATCHES: dict[str, tuple[spaces.Space[Any], Any]] = {
    "discrete from a start": (spaces.Discrete(3, start=5), 6),
    "multi discrete from a start": (spaces.MultiDiscrete([3, 2], start=[-1, 4]), [1, 4]),
    "multi discrete of two axes": (
        two_axes([[2, 3], [4, 2]], [[1, 1], [1, 1]]),
        [[1, 3], [4, 2]],
    ),
    "multi binary of two axes": (spaces.MultiBinary([2, 2]), [[1, 0], [0, 1]]),
}


@pytest.mark.parametrize("case", MATCHES)
def test_actions_that_sb3_does_not_support_are_learned(case: str, tmp_path: Path) -> None:
    space, right = MATCHES[case]
    env = MatchEnv(space, right)
    model = TRPO("MlpPolicy", env, n_steps=128, batch_size=128, target_kl=0.05, seed=0)
    model.learn(40 * 128)
    mean, _ = evaluate_policy(model, MatchEnv(space, right), n_eval_episodes=20, warn=False)
    assert mean == 1.0
    action, _ = model.predict(np.zeros(2, np.float32), deterministic=True)
    assert space.contains(action if space.shape else int(action))
    batch, _ = model.predict(np.zeros((4, 2), np.float32), deterministic=True)
    np.testing.assert_array_equal(batch, np.stack([right] * 4))
    model.save(tmp_path / "policy")
    loaded = TRPO.load(tmp_path / "policy", env=env)
    again, _ = loaded.predict(np.zeros(2, np.float32), deterministic=True)
    np.testing.assert_array_equal(again, right)
    loaded.learn(128)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4, start=2),
        spaces.MultiDiscrete([2, 3], start=[1, -1]),
        two_axes([[2, 3], [4, 5]], [[1, 1], [0, 7]]),
        spaces.MultiBinary([2, 3]),
        spaces.Dict({"a": spaces.Discrete(2, start=1), "b": spaces.Box(-1, 1, (2,))}),
    ],
)
def test_observations_that_sb3_does_not_support_are_supported(space: spaces.Space[Any]) -> None:
    env = RandomEnv(spaces.Discrete(2), space)
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    model = TRPO(policy, env, n_steps=64, batch_size=64, seed=0).learn(128)
    space.seed(0)
    single = space.sample()
    action, _ = model.predict(single, deterministic=True)
    assert action in (0, 1)
    # model.get_env() has the environment's own spaces.
    venv = model.get_env()
    assert venv is not None
    observations = venv.reset()
    assert not isinstance(observations, tuple)
    venv.step(model.predict(observations)[0])


@pytest.mark.parametrize("case", ["multi binary of two axes"])
def test_sb3_contrib_does_not_support_them(case: str) -> None:
    with pytest.raises(AssertionError, match="not supported"):
        sb3_contrib.TRPO("MlpPolicy", MatchEnv(*MATCHES[case]))


@pytest.mark.parametrize("kind", ["alone", "a key"])
def test_an_observation_of_one_number_is_supported(kind: str, tmp_path: Path) -> None:
    number = spaces.Box(-1, 1, ())
    observations = number if kind == "alone" else spaces.Dict({"height": number})
    policy = "MlpPolicy" if kind == "alone" else "MultiInputPolicy"
    env = RandomEnv(spaces.Discrete(3), observations)
    model = TRPO(policy, env, n_steps=64, batch_size=64, seed=0).learn(128)
    model.save(tmp_path / "policy")
    loaded = TRPO.load(tmp_path / "policy")
    for _ in range(9):
        observation = observations.sample()
        expected = model.predict(observation, deterministic=True)[0]
        assert loaded.predict(observation, deterministic=True)[0] == expected


def test_actions_without_bounds_are_supported() -> None:
    space = spaces.Box(np.array([-np.inf, 0.0], "f4"), np.array([np.inf, 1.0], "f4"))
    model = TRPO("MlpPolicy", RandomEnv(space), n_steps=64, batch_size=64, seed=0).learn(128)
    with torch.no_grad():
        model.policy.get_parameter("action_net.bias").add_(1e6)
    action, _ = model.predict(np.zeros(3, np.float32), deterministic=True)
    assert action[0] > 9e5
    assert action[1] == 1.0


@pytest.mark.parametrize(
    "space",
    [spaces.Text(5), spaces.Sequence(spaces.Discrete(2)), spaces.Tuple([spaces.Discrete(2)])],
)
def test_an_unsupported_space_is_refused_with_the_supported_ones(space: spaces.Space[Any]) -> None:
    with pytest.raises(SpaceError, match=r"supported: Box, Discrete, MultiDiscrete"):
        TRPO("MlpPolicy", RandomEnv(spaces.Discrete(2), space))


@pytest.mark.parametrize("space", [space for space, _ in MATCHES.values()], ids=MATCHES)
def test_translation_is_one_to_one(space: spaces.Space[Any]) -> None:
    space.seed(0)
    samples = np.stack([space.sample() for _ in range(20)])
    if not isinstance(space, spaces.MultiBinary):
        translated = observation_to_sb3(samples, space)
        assert isinstance(translated, np.ndarray)
        assert translated.min() >= 0
        np.testing.assert_array_equal(action_from_sb3(translated, space), samples)
        np.testing.assert_array_equal(
            action_from_sb3(translated[0], space), action_from_sb3(translated, space)[0]
        )


@pytest.mark.parametrize(
    ("action_space", "other"),
    [
        (spaces.Discrete(3, start=1), spaces.Discrete(3, start=5)),
        (spaces.Discrete(3), spaces.Discrete(3, start=5)),
        (two_axes([[2], [3]], [[0], [0]]), spaces.MultiDiscrete([2, 3])),
    ],
)
def test_another_environment_must_have_the_same_original_spaces(
    action_space: spaces.Space[Any], other: spaces.Space[Any], tmp_path: Path
) -> None:
    model = TRPO("MlpPolicy", RandomEnv(action_space), n_steps=64, batch_size=64)
    model.save(tmp_path / "policy")
    TRPO.load(tmp_path / "policy", env=RandomEnv(action_space)).learn(64)
    model.set_env(RandomEnv(action_space))
    model.learn(64)
    with pytest.raises(ValueError, match="Action spaces do not match"):
        TRPO.load(tmp_path / "policy", env=RandomEnv(other))
    with pytest.raises(ValueError, match="Action spaces do not match"):
        model.set_env(RandomEnv(other))
    model.learn(64)
