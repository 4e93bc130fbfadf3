"""The parameters that TRPO has and sb3-contrib does not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from tests.train.environments import RandomEnv
from tests.train.mlp.policies import forced_path
from trpo_deploy import TRPO
from trpo_deploy.train.mlp.actor import MlpActor
from trpo_deploy.train.mlp.standard_mlp import standard_mlp
from trpo_deploy.train.update.actor import Actor
from trpo_deploy.train.update.autograd_actor import AutogradActor


def test_sub_sampling_supports_observations_with_keys() -> None:
    """sb3-contrib fails here: it slices the dict."""
    space = spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Discrete(2)})
    env = RandomEnv(spaces.Discrete(2), space)
    TRPO("MultiInputPolicy", env, n_steps=64, batch_size=64, sub_sampling_factor=3).learn(64)


def learned(n_updates: int = 4, generic: bool = False, **kwargs: Any) -> TRPO:
    env = DummyVecEnv([lambda: RandomEnv(spaces.Box(-1, 1, (3,)))] * 2)
    arguments = {"n_steps": 64, "batch_size": 64, "n_critic_updates": 3, "seed": 0, **kwargs}
    model = TRPO("MlpPolicy", env, **arguments)
    with forced_path(generic=generic):
        return model.learn(n_updates * 128)


def parameters(model: TRPO) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()])


def test_the_summed_kl_in_a_region_scaled_by_the_dimensions_gives_nearly_the_same_step() -> None:
    """With three dimensions, damping and region three times as large undo the sum."""
    mean = learned(n_updates=1, target_kl=0.01, cg_damping=0.01)
    summed = learned(n_updates=1, target_kl=0.03, cg_damping=0.03, kl_reduction="sum")
    # CG starts from noise of 1e-4 and stops at a residual of 1e-5.
    torch.testing.assert_close(parameters(summed), parameters(mean), atol=1e-3, rtol=1e-2)
    other = learned(n_updates=1, target_kl=0.01, cg_damping=0.01, kl_reduction="sum")
    assert not torch.allclose(parameters(other), parameters(mean), atol=1e-3, rtol=1e-2)


def test_the_trust_region_changes_linearly_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = []
    policy_step = TRPO.policy_step

    def recorded(model: TRPO, *arguments: Any) -> Any:
        updates.append((model.current_target_kl, policy_step(model, *arguments)))
        return updates[-1][1]

    monkeypatch.setattr(TRPO, "policy_step", recorded)
    learned(target_kl=0.04, target_kl_end=0.004)
    assert [region for region, _ in updates] == pytest.approx([0.031, 0.022, 0.013, 0.004])
    for region, update in updates:
        assert 0.3 * region < update.kl < region  # the line search shrinks by 0.8


@pytest.mark.parametrize("generic", [False, True])
def test_discount_and_lambda_change_linearly_from_rollout_to_rollout(
    monkeypatch: pytest.MonkeyPatch, generic: bool
) -> None:
    """A rollout with the values of a schedule is one with these values as constants."""
    rollouts = []
    train = TRPO.train

    def recorded(model: TRPO) -> None:
        buffer = model.rollout_buffer
        rollouts.append((buffer.gamma, buffer.gae_lambda, buffer.advantages.copy()))
        train(model)

    monkeypatch.setattr(TRPO, "train", recorded)
    schedule: dict[str, Any] = {
        "gamma": 0.9,
        "gamma_end": 0.5,
        "gae_lambda": 0.5,
        "gae_lambda_end": 0.9,
    }
    model = learned(generic=generic, target_kl=1e-12, learning_rate=0.0, **schedule)
    seen, rollouts[:] = rollouts.copy(), []
    assert [gamma for gamma, _, _ in seen] == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert [each for _, each, _ in seen] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    logged = model.logger.name_to_value
    assert logged["train/gamma"] == pytest.approx(0.6)
    assert logged["train/gae_lambda"] == pytest.approx(0.8)
    # RandomEnv has time limits, whose bootstraps are discounted as well.
    learned(generic=generic, target_kl=1e-12, learning_rate=0.0, gamma=0.7, gae_lambda=0.7)
    # The policies differ by steps of 1e-6, the values not at all.
    np.testing.assert_allclose(seen[2][2], rollouts[2][2], rtol=0, atol=1e-5)
    assert not np.allclose(seen[1][2], rollouts[1][2], rtol=0, atol=1e-2)


def test_a_saved_model_restarts_the_schedule_of_the_discount(tmp_path: Path) -> None:
    model = learned(gamma=0.9, gamma_end=0.5)
    assert model.gamma == 0.9
    model.save(tmp_path / "policy")
    loaded = TRPO.load(tmp_path / "policy", env=model.get_env())
    loaded.learn(256)
    assert loaded.rollout_buffer.gamma == pytest.approx(0.7)
    assert sb3_contrib.TRPO.load(tmp_path / "policy").gamma == 0.9


def test_the_true_kl_is_summed_over_the_dimensions() -> None:
    logged = learned(n_updates=2).logger.name_to_value
    assert logged["train/kl_true"] == pytest.approx(3 * logged["train/kl_divergence_loss"]) != 0


def test_a_rollout_beyond_the_last_step_keeps_the_final_trust_region() -> None:
    model = TRPO("MlpPolicy", "CartPole-v1", n_steps=128, target_kl_end=0.001, seed=0)
    model.learn(50)
    assert model.num_timesteps == 128
    assert model.current_target_kl == pytest.approx(0.001)


def test_learning_rate_end_is_refused_together_with_a_schedule() -> None:
    with pytest.raises(ValueError, match="leave learning_rate_end out"):
        learned(learning_rate=lambda _: 1e-3, learning_rate_end=1e-4)


def test_the_learning_rate_changes_linearly_to_its_end(tmp_path: Path) -> None:
    model = learned(learning_rate=1e-3, learning_rate_end=1e-4)
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    model.save(tmp_path / "policy")
    assert sb3_contrib.TRPO.load(tmp_path / "policy").lr_schedule(0.5) == pytest.approx(5.5e-4)


@pytest.mark.parametrize("generic", [False, True])
def test_the_fisher_matrix_is_sub_sampled(generic: bool) -> None:
    model = learned(n_updates=1)
    mlp = standard_mlp(model.policy)
    assert mlp is not None
    observations = next(model.rollout_buffer.get()).observations
    vector = torch.randn(sum(p.numel() for p in mlp.actor_parameters))

    def product(chosen: Any, rows: slice | None = None) -> torch.Tensor:
        actor: Actor = AutogradActor(model.policy, chosen)
        if not generic:
            actor = MlpActor(model.policy, mlp, chosen)
        with torch.no_grad():
            old = copy.copy(actor.distribution())
        actor.distribution()
        return actor.fisher_vector_product(old, "mean", damping=0.1, rows=rows)(vector)

    expected = product(observations[::10])
    sub_sampled = product(observations, slice(None, None, 10))
    torch.testing.assert_close(sub_sampled, expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(product(observations), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("generic", [False, True])
def test_sub_sampling_the_fisher_matrix_changes_the_update_only_there(generic: bool) -> None:
    all_samples, sub_sampled = (
        learned(n_updates=1, generic=generic, fisher_sub_sampling_factor=factor, target_kl=1e-3)
        for factor in (1, 4)
    )
    assert not torch.equal(parameters(sub_sampled), parameters(all_samples))
    # The surrogate is that of all samples in both: the same value before the step.
    before = [
        model.logger.name_to_value["train/policy_objective"]
        - model.logger.name_to_value["train/surrogate_gain"]
        for model in (all_samples, sub_sampled)
    ]
    assert before[0] == pytest.approx(before[1], abs=1e-6)


def test_a_full_batch_is_one_step_per_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    step = torch.optim.Adam.step

    def counted(*arguments: Any) -> Any:
        steps.append(1)
        return step(*arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", counted)
    learned(n_updates=1, generic=True, critic_full_batch=True)
    assert len(steps) == 3
    steps.clear()
    learned(n_updates=1, generic=True)
    assert len(steps) == 3 * 2
    # A rollout of any size fits, so there is no warning as for mini-batches.
    learned(n_updates=1, generic=True, critic_full_batch=True, batch_size=48)


def test_the_critics_gradient_is_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []
    original = torch.optim.Adam.step

    def step(self: Any, *arguments: Any) -> Any:
        gradients = [p.grad for g in self.param_groups for p in g["params"] if p.grad is not None]
        norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
        return original(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    learned(generic=True, critic_max_grad_norm=0.01)
    assert max(norms) <= 0.01 * (1 + 1e-5)


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="'mean' or 'sum'"):
        TRPO("MlpPolicy", "CartPole-v1", kl_reduction="max")  # type: ignore[arg-type]
