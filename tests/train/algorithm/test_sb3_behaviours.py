"""Common uses of SB3's algorithms work with TRPO."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import (
    FakeImageEnv,
    IdentityEnv,
    IdentityEnvBox,
    IdentityEnvMultiBinary,
    IdentityEnvMultiDiscrete,
    SimpleMultiObsEnv,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from tests.train.environments import RandomEnv
from trpo_deploy import TRPO

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 64, "seed": 0}


def mean_return(model: TRPO, env: gymnasium.Env[Any, Any]) -> float:
    mean, _ = evaluate_policy(model, env, n_eval_episodes=20, warn=False)
    assert isinstance(mean, float)
    return mean


@pytest.mark.parametrize(
    "env", [IdentityEnv(2), IdentityEnvMultiDiscrete(2), IdentityEnvMultiBinary(2)]
)
def test_the_identity_is_learned(env: gymnasium.Env[Any, Any]) -> None:
    venv = DummyVecEnv([lambda: env])
    model = TRPO("MlpPolicy", venv, gamma=0.4, n_steps=256, batch_size=256, seed=0)
    model.learn(20 * 256)
    assert mean_return(model, env) > 90  # of 100


def test_a_box_identity_improves() -> None:
    env = IdentityEnvBox(eps=0.5)
    model = TRPO("MlpPolicy", DummyVecEnv([lambda: env]), gamma=0.4, **SMALL)
    before = mean_return(model, env)
    model.learn(40 * 64)
    assert mean_return(model, env) > before


def test_the_same_seed_gives_the_same_run() -> None:
    runs = [
        TRPO("MlpPolicy", "CartPole-v1", **SMALL).learn(256).policy.state_dict() for _ in range(2)
    ]
    torch.testing.assert_close(runs[0], runs[1], rtol=0, atol=0)


@pytest.mark.parametrize("size", [1, 42])
def test_the_statistics_window_has_the_given_size(size: int) -> None:
    model = TRPO("MlpPolicy", "CartPole-v1", stats_window_size=size, **SMALL).learn(64)
    assert model.ep_info_buffer is not None
    assert model.ep_info_buffer.maxlen == size


def test_environments_can_be_replaced() -> None:
    model = TRPO("MlpPolicy", DummyVecEnv([lambda: IdentityEnvBox()]), **SMALL).learn(64)
    model.set_env(DummyVecEnv([lambda: IdentityEnvBox()]))
    model.learn(64)
    model.set_env(IdentityEnvBox())
    model.learn(64)


def test_saved_attributes_can_be_excluded_and_included(tmp_path: Path) -> None:
    model = TRPO("MlpPolicy", "CartPole-v1", verbose=0, **SMALL)
    model.verbose = 2
    model.save(tmp_path / "policy", exclude=["verbose"])
    assert TRPO.load(tmp_path / "policy").verbose == 0
    model.save(tmp_path / "policy", exclude=["verbose"], include=["verbose"])
    assert TRPO.load(tmp_path / "policy").verbose == 2


def test_parameters_are_set_all_or_none() -> None:
    model = TRPO("MlpPolicy", "CartPole-v1", **SMALL)
    parameters: dict[str, Any] = model.get_parameters()
    more: dict[str, Any] = {**parameters, "nobody": {}}
    with pytest.raises(ValueError, match="nobody"):
        model.set_parameters(more)
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        model.set_parameters({"policy": parameters["policy"]}, exact_match=True)


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
def test_a_policy_is_saved_and_loaded_alone(policy: str, tmp_path: Path) -> None:
    env = (
        IdentityEnvBox()
        if policy == "MlpPolicy"
        else FakeImageEnv(screen_height=40, screen_width=40, n_channels=2, discrete=False)
    )
    model = TRPO(policy, env, **SMALL).learn(64)
    model.policy.save(str(tmp_path / "policy.pkl"))
    loaded = type(model.policy).load(str(tmp_path / "policy.pkl"))
    venv = model.get_env()
    assert venv is not None
    observations: Any = venv.reset()
    np.testing.assert_array_equal(
        loaded.predict(observations, deterministic=True)[0],
        model.policy.predict(observations, deterministic=True)[0],
    )


VECTORS = {
    "one key": spaces.Dict({"vec": spaces.Box(-1, 1, (20,))}),
    "keys": spaces.Dict({"a": spaces.Box(-1, 1, (5,)), "b": spaces.Discrete(4)}),
}


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("action_space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,))], ids=str)
@pytest.mark.parametrize("space", VECTORS.values(), ids=VECTORS)
def test_keys_and_the_same_numbers_flattened_give_the_same_policy(
    space: spaces.Dict, action_space: spaces.Space[Any]
) -> None:
    policies = [
        TRPO(policy, env, **SMALL).learn(128).policy
        for policy, env in (
            ("MultiInputPolicy", RandomEnv(action_space, space)),
            ("MlpPolicy", FlattenObservation(RandomEnv(action_space, space))),
        )
    ]
    names = dict(policies[1].named_parameters())
    for name, parameter in policies[0].named_parameters():
        # Bit for bit: the same functions get the same numbers.
        torch.testing.assert_close(parameter, names[name], rtol=0, atol=0)


@pytest.mark.parametrize("channel_last", [False, True])
def test_images_under_keys_are_stacked(channel_last: bool) -> None:
    order: Any = {"vec": None, "img": "last" if channel_last else "first"}  # SB3's hint has no None
    env = VecFrameStack(
        DummyVecEnv([lambda: SimpleMultiObsEnv(channel_last=channel_last)]),
        n_stack=3,
        channels_order=order,
    )
    model = TRPO("MultiInputPolicy", env, **SMALL).learn(64)
    evaluate_policy(model, env, n_eval_episodes=2, warn=False)


def test_selected_keys_are_normalized() -> None:
    space = spaces.Dict({"vec": spaces.Box(-9, 9, (2,)), "mode": spaces.Discrete(3)})
    env = VecNormalize(
        DummyVecEnv([lambda: RandomEnv(spaces.Discrete(2), space)]), norm_obs_keys=["vec"]
    )
    model = TRPO("MultiInputPolicy", env, **SMALL).learn(64)
    evaluate_policy(model, env, n_eval_episodes=2, warn=False)


@pytest.mark.parametrize("reset_num_timesteps", [True, False])
def test_a_copied_model_with_a_normalizer_trains_on_new_environments(
    reset_num_timesteps: bool,
) -> None:
    """SB3's ``VecNormalize`` does not copy its environments."""
    env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
    copied = copy.deepcopy(TRPO("MlpPolicy", env, **SMALL).learn(128))
    with pytest.raises(ValueError, match=r"no environments.*set_venv\(.*set_env"):
        copied.learn(128, reset_num_timesteps=reset_num_timesteps)
    normalizer = copied.get_vec_normalize_env()
    assert normalizer is not None
    assert copied.env is normalizer
    normalizer.set_venv(make_vec_env("CartPole-v1", 2, seed=0))
    copied.set_env(copied.env)
    copied.learn(128, reset_num_timesteps=reset_num_timesteps)


def test_nested_dicts_are_refused() -> None:
    space = spaces.Dict({"outer": spaces.Dict({"inner": spaces.Discrete(2)})})
    with pytest.raises(NotImplementedError, match=r"[Nn]ested"):
        TRPO("MultiInputPolicy", RandomEnv(spaces.Discrete(2), space))


class NormAndDropout(BaseFeaturesExtractor):
    """Layers that behave differently in training and in use."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, observation_space.shape[0])
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.BatchNorm1d(self.features_dim), torch.nn.Dropout(0.5)
        )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.layers(observations)
        return features


def test_batch_norm_is_trained_by_updates_and_fixed_in_predict() -> None:
    model = TRPO(
        "MlpPolicy",
        RandomEnv(spaces.Discrete(3)),
        policy_kwargs={"features_extractor_class": NormAndDropout},
        **SMALL,
    )
    norm: Any = model.policy.get_submodule("features_extractor.layers.1")
    before = norm.running_mean.clone()
    model.learn(128)
    assert not torch.allclose(norm.running_mean, before)
    before = norm.running_mean.clone()
    observation = np.zeros(3, np.float32)
    first, _ = model.predict(observation, deterministic=True)
    for _ in range(5):
        np.testing.assert_array_equal(model.predict(observation, deterministic=True)[0], first)
    assert torch.equal(norm.running_mean, before)


def test_callbacks_see_each_step_and_can_stop_the_run(tmp_path: Path) -> None:
    class Count(BaseCallback):
        steps = 0

        def _on_step(self) -> bool:
            self.steps += 1
            assert {"obs_tensor", "actions", "rewards", "dones", "infos"} <= set(self.locals)
            return self.steps < 100

    count = Count()
    evaluation = EvalCallback(
        make_vec_env("CartPole-v1", 1), eval_freq=50, log_path=str(tmp_path), verbose=0
    )
    model = TRPO("MlpPolicy", make_vec_env("CartPole-v1", 2), **SMALL)
    model.learn(10_000, callback=[count, evaluation])
    assert count.steps == 100
    assert model.num_timesteps == 200
    assert (tmp_path / "evaluations.npz").is_file()


def test_time_limits_are_bootstrapped_with_the_value_of_the_last_observation() -> None:
    """Rewards are zero, so a return above zero can only come from the critic."""

    class Endless(RandomEnv):
        def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            self.steps += 1
            return self.observation_space.sample(), 0.0, False, self.steps >= 5, {}

    env = DummyVecEnv([lambda: Endless(spaces.Discrete(2))])
    model = TRPO("MlpPolicy", env, n_critic_updates=0, **SMALL)
    with torch.no_grad():
        model.policy.value_net.weight.zero_()
        model.policy.value_net.bias.fill_(10.0)
    model.learn(64)
    rewards = next(model.rollout_buffer.get(None)).returns
    # V is 10 everywhere: bootstrapping at every fifth step and at the end keeps returns near 10.
    assert rewards.min() > 0.9 * 10 * 0.99**5


@pytest.mark.parametrize("wrong", [IdentityEnvBox, lambda: IdentityEnvBox(), 3])
def test_what_is_no_environment_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"expected an environment, its id, a VecEnv.* got .*"):
        TRPO("MlpPolicy", wrong, **SMALL)


def test_another_default_dtype_of_torch_is_refused() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ValueError, match=r"default dtype is torch\.float64.*set_default_dtype"):
            TRPO("MlpPolicy", "CartPole-v1", **SMALL)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("space", "kwargs"),
    [
        (spaces.Box(-1, 1, (2,)), {}),
        (spaces.Box(-1, 1, (20,)), {}),
        (spaces.Box(-1, 1, (2,)), {"use_sde": True}),
        (spaces.Discrete(3), {}),
        (spaces.MultiBinary(3), {}),
    ],
)
def test_a_default_dtype_that_changes_later_changes_nothing(
    space: spaces.Space[Any], kwargs: dict[str, Any]
) -> None:
    policies = []
    for dtype in (torch.float32, torch.float64):
        model = TRPO("MlpPolicy", DummyVecEnv([lambda: RandomEnv(space)]), **SMALL, **kwargs)
        torch.set_default_dtype(dtype)
        try:
            policies.append(model.learn(128).policy.state_dict())
        finally:
            torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(*policies, rtol=0, atol=0)
