"""Squashed Gaussian policies are exact at the bounds and can be saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy

from tests.train.environments import RandomEnv
from trpo_deploy import TRPO
from trpo_deploy.errors import SpaceError
from trpo_deploy.sb3.squashed import SquashedMlpPolicy

SQUASH: dict[str, Any] = {
    "n_steps": 64,
    "batch_size": 64,
    "seed": 0,
    "policy_kwargs": {"squash_output": True},
}


def test_squashing_keeps_log_probabilities_exact_at_the_bounds() -> None:
    """A Gaussian far beyond saturation: tanh is 1 to the last bit, and the ratio is exact."""
    env = RandomEnv(spaces.Box(-2.0, 6.0, (2,)))
    model = TRPO("MlpPolicy", env, **SQUASH)
    with torch.no_grad():
        model.policy.get_parameter("action_net.bias").add_(30.0)
    model.learn(64)
    rollout = next(model.rollout_buffer.get())
    assert rollout.actions.abs().min() > 20  # the buffer keeps the Gaussian's actions
    action, _ = model.predict(np.zeros(3, np.float32))
    np.testing.assert_array_equal(action, [6.0, 6.0])  # the environment's are in bounds
    fresh = TRPO("MlpPolicy", env, **SQUASH)
    with torch.no_grad():
        fresh.policy.get_parameter("action_net.bias").add_(30.0)
        # The policy that collected the rollout; learn() has changed it.
        log_prob = fresh.policy.get_distribution(rollout.observations).log_prob(rollout.actions)
    assert torch.isfinite(log_prob).all()
    # Rounding of a float32 sum near 30, squared and over a variance of one.
    torch.testing.assert_close(rollout.old_log_prob, log_prob, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("use_sde", [False, True])
def test_squashing_needs_finite_bounds(use_sde: bool) -> None:
    env = RandomEnv(spaces.Box(-np.inf, np.inf, (2,)))
    with pytest.raises(SpaceError, match="finite bounds"):
        TRPO("MlpPolicy", env, use_sde=use_sde, policy_kwargs={"squash_output": True})


class Narrow(ActorCriticPolicy):
    """A user's own policy."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "net_arch": [5]})


@pytest.mark.parametrize("policy", ["MlpPolicy", Narrow])
def test_a_squashed_policy_loads_and_trains_on(policy: Any, tmp_path: Path) -> None:
    env = RandomEnv(spaces.Box(-2.0, 6.0, (2,)))
    model = TRPO(policy, env, **SQUASH)
    assert isinstance(model.policy, policy if policy is Narrow else SquashedMlpPolicy)
    assert model.policy.unscale_action(np.full(2, 50.0)).tolist() == [6.0, 6.0]
    model.learn(64).save(tmp_path / "policy")
    loaded = TRPO.load(tmp_path / "policy", env=env)
    observation = np.full(3, 0.5, np.float32)
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0],
        model.predict(observation, deterministic=True)[0],
    )
    loaded.learn(64)
    model.policy.save(str(tmp_path / "alone"))
    alone = type(model.policy).load(str(tmp_path / "alone"))
    np.testing.assert_array_equal(
        alone.predict(observation, deterministic=True)[0],
        model.predict(observation, deterministic=True)[0],
    )
    with pytest.raises(SpaceError, match="finite bounds"):
        TRPO(
            "MlpPolicy",
            RandomEnv(spaces.Box(-np.inf, 1, (2,))),
            policy_kwargs={"squash_output": True},
        )
