"""A refused update changes nothing."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.train.environments import RandomEnv
from tests.train.mlp.policies import forced_path
from trpo_deploy import TRPO
from trpo_deploy.errors import TrainingError
from trpo_deploy.train.algorithm.trpo import MAX_REFUSALS


def parameters(model: TRPO) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()])


def first_moments(model: TRPO) -> torch.Tensor:
    state = model.policy.optimizer.state_dict()["state"]
    return torch.cat([each["exp_avg"].flatten() for each in state.values()])


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("huge", [1e200, 1e25])
def test_a_refused_rollout_changes_nothing(huge: float, generic: bool) -> None:
    """Rewards that overflow, at once or when squared."""

    class Explodes(RandomEnv):
        explode = False

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, reward, terminated, truncated, info = super().step(action)
            return observation, huge if self.explode else reward, terminated, truncated, info

    inner = Explodes(spaces.Discrete(3))
    env = VecNormalize(DummyVecEnv([lambda: inner]), norm_reward=False)
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, scale_returns=True)
    model.learn(128)
    policy_before = parameters(model).clone()
    optimizer_before = copy.deepcopy(model.policy.optimizer.state_dict()["state"])
    moments_before = model.return_moments
    rms: Any = env.obs_rms
    rms_before = (rms.mean.copy(), rms.count, env.ret_rms.var)
    inner.explode = True
    with np.errstate(all="ignore"), forced_path(generic=generic):
        model.learn(64, reset_num_timesteps=False)
    assert model.logger.name_to_value["train/refused_updates"] == 1
    assert "finite" in str(model.logger.name_to_value["train/refusal"])
    assert torch.equal(parameters(model), policy_before)
    optimizer_now = model.policy.optimizer.state_dict()["state"]
    torch.testing.assert_close(optimizer_now, optimizer_before, rtol=0, atol=0)
    assert model.return_moments == moments_before
    assert np.array_equal(rms.mean, rms_before[0])
    assert (rms.count, env.ret_rms.var) == rms_before[1:]
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="consecutive"):
        model.learn(64 * 20)


@pytest.mark.parametrize("unusable", ["advantages", "returns"])
@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
def test_what_the_actor_or_the_critic_refuses_trains_neither(
    policy: str, unusable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The normalizer is restored to before the rollout, so both networks must be too."""
    images = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    observations = images if policy == "CnnPolicy" else spaces.Box(-1, 1, (3,))
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3), observations)])
    model = TRPO(policy, env, n_steps=64, batch_size=64, seed=0).learn(64)
    policy_before, optimizer_before = parameters(model).clone(), first_moments(model).clone()
    collect = model.collect_rollouts

    def poisoned(*arguments: Any, **keywords: Any) -> bool:
        complete = collect(*arguments, **keywords)
        getattr(model.rollout_buffer, unusable)[3] = np.nan
        return complete

    monkeypatch.setattr(model, "collect_rollouts", poisoned)
    model.learn(64, reset_num_timesteps=False)
    assert "finite" in str(model.logger.name_to_value["train/refusal"])
    assert torch.equal(parameters(model), policy_before)
    assert torch.equal(first_moments(model), optimizer_before)


class Dropping(FlattenExtractor):
    """Drops half of the observation at random, another half in each pass."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(super().forward(observations), training=True)


def test_without_positive_curvature_only_the_critic_is_trained() -> None:
    """As after a line search without success, and the run goes on."""
    model = TRPO(
        "MlpPolicy",
        DummyVecEnv([lambda: RandomEnv(spaces.Box(-1, 1, (2,)))]),
        n_steps=8,
        batch_size=8,
        cg_damping=0.0,
        seed=0,
        policy_kwargs={"features_extractor_class": Dropping},
    )
    says = r"the KL's curvature is (\S+) along the step, .* \(dropout and batch normalization"
    n_without_step = 0
    for _ in range(3 * MAX_REFUSALS):
        before = copy.deepcopy(model.policy.state_dict())
        model.learn(8, reset_num_timesteps=False)
        after = model.policy.state_dict()
        changed = {name for name in after if not torch.equal(after[name], before[name])}
        logged = model.logger.name_to_value
        assert "train/refusal" not in logged
        assert any("value" in name for name in changed)
        if "train/no_policy_step" in logged:
            n_without_step += 1
            found = re.match(says, str(logged["train/no_policy_step"]))
            assert found is not None
            assert float(found[1]) <= 0
            assert all("value" in name for name in changed)
            assert logged["train/is_line_search_success"] == 0
    assert 0 < n_without_step < 3 * MAX_REFUSALS


def test_many_updates_without_positive_curvature_do_not_end_the_run() -> None:
    """With a negative damping, no policy has one."""
    model = TRPO("MlpPolicy", "Pendulum-v1", n_steps=8, batch_size=8, cg_damping=-1e3, seed=0)
    model.learn(8 * (MAX_REFUSALS + 2))
    assert "train/no_policy_step" in model.logger.name_to_value
