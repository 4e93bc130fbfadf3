"""The fast path and the generic path train the same policy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from tests.train.environments import RandomEnv
from tests.train.mlp.policies import (
    ACTION_SPACES,
    FROM_INPUT,
    FROM_VALUE,
    GSDE,
    NORMS,
    NormBefore,
    OwnNetworks,
    forced_path,
    trained,
)
from trpo_deploy import TRPO
from trpo_deploy.errors import ObservationError

OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no hidden layer": {"policy_kwargs": {"net_arch": []}},
    "uneven": {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [16, 4]}}},
    **{
        each.__name__: {"policy_kwargs": {"activation_fn": each}}
        for each in FROM_VALUE
        if each is not nn.Tanh
    },
    "sub-sampled": {"sub_sampling_factor": 3},
    "fisher sub-sampled": {"fisher_sub_sampling_factor": 3},
    "summed": {"kl_reduction": "sum"},
    "full batch": {"critic_full_batch": True},
    "clipped": {"critic_max_grad_norm": 0.5},
    "truncated mini-batch": {"batch_size": 48},
    "schedules": {
        "learning_rate_end": 1e-4,
        "target_kl_end": 0.005,
        "gamma_end": 0.9,
        "gae_lambda_end": 0.5,
    },
    "adam's own settings": {
        "policy_kwargs": {"optimizer_kwargs": {"betas": (0.8, 0.9), "eps": 1e-3}}
    },
    **{
        name: {"policy_kwargs": {"optimizer_kwargs": {name: value}}}
        for name, value in {"weight_decay": 0.1, "amsgrad": True, "maximize": True}.items()
    },
    "another optimizer": {"policy_kwargs": {"optimizer_class": torch.optim.SGD}},
}


@pytest.mark.filterwarnings("ignore:The rollout of")
@pytest.mark.parametrize("space", ACTION_SPACES.values(), ids=ACTION_SPACES)
@pytest.mark.parametrize("option", OPTIONS)
def test_both_paths_give_the_same_policy_and_optimizer(
    option: str, space: spaces.Space[Any]
) -> None:
    check_both_paths(space, **OPTIONS[option])


@pytest.mark.parametrize("sde_sample_freq", [-1, 4])
@pytest.mark.parametrize("n_envs", [1, 2])  # SB3 treats the noise of one environment separately
@pytest.mark.parametrize("option", GSDE)
def test_both_paths_give_the_same_policy_and_optimizer_with_gsde(
    option: str, n_envs: int, sde_sample_freq: int
) -> None:
    check_both_paths(
        ACTION_SPACES["box"],
        n_envs=n_envs,
        use_sde=True,
        sde_sample_freq=sde_sample_freq,
        policy_kwargs=GSDE[option],
    )


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("net_arch", [[], [8]], ids=str)
def test_both_paths_support_observations_of_several_axes_with_gsde(net_arch: list[int]) -> None:
    observations, policy_kwargs = spaces.Box(-1, 1, (3, 4)), {"net_arch": net_arch}
    box = ACTION_SPACES["box"]
    check_both_paths(box, observations=observations, use_sde=True, policy_kwargs=policy_kwargs)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("activation", FROM_INPUT, ids=lambda make: repr(make()))
def test_both_paths_agree_where_the_slope_needs_the_input(activation: Any) -> None:
    policy_kwargs = {"activation_fn": activation, "net_arch": [32, 8]}
    check_both_paths(ACTION_SPACES["discrete"], policy_kwargs=policy_kwargs)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize(
    ("space", "kwargs"),
    [
        (ACTION_SPACES["box"], {"critic_max_grad_norm": 0.5}),
        (ACTION_SPACES["multi binary"], {"policy_kwargs": {"activation_fn": nn.SiLU}}),
        (ACTION_SPACES["box"], {"use_sde": True, "fisher_sub_sampling_factor": 3}),
    ],
    ids=["gradient clip", "slope from the input", "gsde"],
)
@pytest.mark.parametrize("policy", NORMS)
def test_both_paths_agree_with_layer_norms(
    policy: type[ActorCriticPolicy], space: spaces.Space[Any], kwargs: dict[str, Any]
) -> None:
    # One update: in the second, a norm after tanh amplifies a rounding of the weights to 8e-5.
    check_both_paths(space, policy=policy, n_updates=1, **kwargs)


KEYS = spaces.Dict(
    {
        "vector": spaces.Box(-1, 1, (3,), np.float64),
        "matrix": spaces.Box(-1, 1, (2, 2)),
        "mode": spaces.Discrete(4),
        "digits": spaces.MultiDiscrete([2, 3]),
        "bits": spaces.MultiBinary(3),
    }
)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("use_sde", [False, True])
@pytest.mark.parametrize("observations", [*KEYS.values(), KEYS], ids=str)
def test_both_paths_agree_on_flat_observations(
    observations: spaces.Space[Any], use_sde: bool
) -> None:
    policy = "MultiInputPolicy" if observations is KEYS else "MlpPolicy"
    check_both_paths(
        ACTION_SPACES["box"], observations=observations, policy=policy, use_sde=use_sde
    )


@pytest.mark.parametrize("value", [-1, 4])
@pytest.mark.parametrize("space", [KEYS["mode"], KEYS["digits"]], ids=str)
def test_an_integer_outside_of_its_space_is_refused(space: spaces.Space[Any], value: int) -> None:
    env = RandomEnv(ACTION_SPACES["box"], space)
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
    vars(env)["step"] = lambda _: (space.sample() * 0 + value, 0.0, False, False, {})
    with pytest.raises(ObservationError, match=rf"'obs': expected integers from 0 to .*{value}"):
        model.learn(64)


def check_both_paths(space: spaces.Space[Any], **kwargs: Any) -> None:
    fast, generic = (trained(space, generic=generic, **kwargs) for generic in (False, True))
    # float32 sums in another order, over two updates, as in the comparison with sb3-contrib
    torch.testing.assert_close(
        fast.policy.state_dict(), generic.policy.state_dict(), rtol=1e-4, atol=2e-5
    )
    torch.testing.assert_close(
        fast.policy.optimizer.state_dict(),
        generic.policy.optimizer.state_dict(),
        rtol=1e-3,
        atol=1e-4,
    )
    losses = [model.logger.name_to_value["train/value_loss"] for model in (fast, generic)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


class NotANumber(RandomEnv):
    """Its hundredth reward is NaN."""

    total_steps = 0

    def step(self, action: Any) -> Any:
        self.total_steps += 1
        observation, reward, *others = super().step(action)
        return observation, math.nan if self.total_steps == 100 else reward, *others


def test_both_paths_agree_after_a_refused_update() -> None:
    models = []
    for generic in (False, True):
        env = DummyVecEnv([lambda: NotANumber(ACTION_SPACES["box"])] * 2)
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, n_critic_updates=3, seed=0)
        refused = []
        with forced_path(generic=generic):
            for _ in range(4):
                model.learn(128, reset_num_timesteps=False)
                refused.append("train/refusal" in model.logger.name_to_value)
        assert refused == [False, True, False, False]
        models.append(model)
    ours, generic_one = (model.policy.state_dict() for model in models)
    # as above, over three updates
    torch.testing.assert_close(ours, generic_one, rtol=1e-4, atol=5e-5)


def test_a_hook_of_the_optimizer_is_called() -> None:
    calls = []
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))] * 2)
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, n_critic_updates=3, seed=0)
    model.policy.optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    model.learn(128)
    assert len(calls) == 3 * 2


def test_parameters_keep_their_own_memory() -> None:
    """Views of one vector would each be saved with the whole vector."""
    model = trained(spaces.Discrete(3), generic=False)
    for parameter in model.policy.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * 4


def test_a_replaced_layer_is_trained() -> None:
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))] * 2)
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
    model.policy.action_net = nn.Linear(64, 3)
    before = model.policy.action_net.weight.detach().clone()
    model.learn(256)
    assert not torch.equal(model.policy.action_net.weight, before)


def test_both_paths_agree_after_a_critics_layer_was_frozen_for_a_while() -> None:
    models = []
    for generic in (False, True):
        env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))] * 2)
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
        with forced_path(generic=generic):
            model.policy.mlp_extractor.value_net.requires_grad_(False)
            model.learn(128)
            model.policy.mlp_extractor.value_net.requires_grad_(True)
            models.append(model.learn(128, reset_num_timesteps=False))
    ours, generic_one = (model.policy.state_dict() for model in models)
    torch.testing.assert_close(ours, generic_one, rtol=1e-4, atol=2e-5)  # as above


def test_a_critics_layer_that_the_optimizer_does_not_have_is_not_trained(tmp_path: Path) -> None:
    """As in SB3, which saves and loads such a model."""
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))] * 2)
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
    model.policy.value_net = nn.Linear(64, 1)
    before = model.policy.value_net.weight.detach().clone()
    model.learn(256).save(tmp_path / "policy")
    assert torch.equal(model.policy.value_net.weight, before)


IMAGES = spaces.Box(0, 255, (4, 4, 1), np.uint8)


class Custom(OwnNetworks):
    """May compute anything."""

    def get_distribution(self, obs: Any) -> Any:
        """The same distribution."""
        return super().get_distribution(obs)


class CustomProperty(ActorCriticPolicy):
    """Replaces a property."""

    @property
    def squash_output(self) -> bool:
        """The same."""
        return super().squash_output


@pytest.mark.parametrize(
    ("policy", "observations", "says"),
    [
        ("MlpPolicy", spaces.Box(-1, 1, (3,)), "Update: standard MLP; rollout: {}"),
        ("MlpPolicy", spaces.Discrete(3), "Update: standard MLP; rollout: {}"),
        ("MlpPolicy", IMAGES, "Update: standard MLP; rollout: unrolled modules"),
        (NormBefore, spaces.Box(-1, 1, (3,)), "Update: standard MLP; rollout: {}"),
        (OwnNetworks, spaces.Box(-1, 1, (3,)), "Update: generic; rollout: unrolled modules"),
        (Custom, spaces.Box(-1, 1, (3,)), "Update: generic; rollout: Stable-Baselines3"),
        (CustomProperty, IMAGES, "Update: generic; rollout: Stable-Baselines3"),
    ],
)
def test_the_paths_are_printed(
    policy: Any,
    observations: Any,
    says: str,
    arithmetic: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    TRPO(policy, RandomEnv(spaces.Discrete(2), observations), device="cpu", verbose=1)
    assert says.format(arithmetic) in capsys.readouterr().out
