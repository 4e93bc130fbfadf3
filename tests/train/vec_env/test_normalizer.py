"""What normalizers refuse, and what evaluations share with training."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.train.environments import RandomEnv
from tests.train.vec_env.helpers import make
from trpo_deploy.errors import ConfigError, SpaceError
from trpo_deploy.train import TRPO, load_config
from trpo_deploy.train.run.environments import make_evaluation_env, make_training_env


@pytest.mark.parametrize("alone", [True, False])
def test_integers_are_not_normalized(alone: bool) -> None:
    """SB3's buffer would truncate them to integers again."""
    memory = spaces.Box(0, 255, (5,), np.uint8)
    space = memory if alone else spaces.Dict({"ram": memory, "x": spaces.Box(-1, 1, (2,))})
    policy = "MlpPolicy" if alone else "MultiInputPolicy"

    def model(**normalizer: Any) -> TRPO:
        env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(2), space)])
        return TRPO(policy, VecNormalize(env, **normalizer), n_steps=64, batch_size=64)

    with pytest.raises(SpaceError, match=r"uint8.* holds integers.*DtypeObservation"):
        model(norm_obs_keys=None if alone else ["ram", "x"])
    model(norm_obs=False).learn(64)
    if not alone:
        model(norm_obs_keys=["x"]).learn(64)


class Pictured(RandomEnv):
    """Observes an image."""

    def __init__(self, *, keys: bool) -> None:
        image = spaces.Box(0, 255, (36, 36, 1), np.uint8)
        vector = spaces.Box(-1, 1, (2,))
        both = spaces.Dict({"image": image, "vector": vector})
        super().__init__(spaces.Discrete(2), both if keys else image)


gymnasium.register("Pictured-v0", f"{__name__}:Pictured", disable_env_checker=True)


@pytest.mark.parametrize("keys", [True, False])
def test_images_are_not_normalized(keys: bool) -> None:
    policy = "MultiInputPolicy" if keys else "CnnPolicy"

    def make_normalized(normalize: str) -> None:
        make(
            "tests.train.vec_env.test_normalizer:Pictured-v0",
            "sync",
            env_args=[f"keys={keys}"],
            settings=[f"normalize={normalize}", f"policy={policy}"],
        ).close()

    with pytest.raises(SpaceError, match="is an image, which the policy scales itself"):
        make_normalized("{norm_obs_keys: [vector, image]}" if keys else "true")
    make_normalized("{norm_obs_keys: [vector]}" if keys else "{norm_obs: false}")


def test_evaluation_shares_the_training_normalizers_statistics() -> None:
    settings = ["normalize={clip_obs: 2.5, epsilon: 0.5}", "gamma=0.9"]
    config = load_config("CartPole-v1", settings=settings)
    env = make_training_env(config)
    evaluation = make_evaluation_env(config, env)
    assert isinstance(env, VecNormalize)
    assert isinstance(evaluation, VecNormalize)
    assert env.gamma == 0.9
    assert (evaluation.clip_obs, evaluation.epsilon) == (2.5, 0.5)
    assert evaluation.obs_rms is env.obs_rms
    assert not evaluation.training
    assert not evaluation.norm_reward
    evaluation.close()
    env.close()


def test_a_normalizer_that_does_not_fit_the_space_is_refused() -> None:
    with pytest.raises(ConfigError, match="normalize=false trains on raw observations"):
        make("FrozenLake-v1", "sync", normalize=True)
