"""Extensions over sb3-contrib: more spaces, exact squashing, the extra parameters."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.train.environments import MatchEnv, RandomEnv
from tests.train.mlp.policies import forced_path
from trpo_deploy import TRPO
from trpo_deploy.envs.space_translation import action_from_sb3, observation_to_sb3
from trpo_deploy.errors import SpaceError, TrainingError
from trpo_deploy.sb3.squashed import SquashedMlpPolicy
from trpo_deploy.train.algorithm.return_scale import NO_RETURNS, deviation, with_returns
from trpo_deploy.train.mlp.actor import MlpActor
from trpo_deploy.train.mlp.standard_mlp import standard_mlp
from trpo_deploy.train.update.actor import Actor
from trpo_deploy.train.update.autograd_actor import AutogradActor

MATCHES: dict[str, tuple[spaces.Space[Any], Any]] = {
    "discrete from a start": (spaces.Discrete(3, start=5), 6),
    "multi discrete from a start": (spaces.MultiDiscrete([3, 2], start=[-1, 4]), [1, 4]),
    "multi discrete of two axes": (
        spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[1, 1], [1, 1]]),
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
        spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[1, 1], [0, 7]]),
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


@pytest.mark.parametrize(
    "space",
    [spaces.Text(5), spaces.Sequence(spaces.Discrete(2)), spaces.Tuple([spaces.Discrete(2)])],
)
def test_an_unsupported_space_is_refused_with_the_supported_ones(space: spaces.Space[Any]) -> None:
    with pytest.raises(SpaceError, match=r"supported: Box, Discrete, MultiDiscrete"):
        TRPO("MlpPolicy", RandomEnv(spaces.Discrete(2), space))


@pytest.mark.parametrize("use_sde", [False, True])
def test_squashing_needs_finite_bounds(use_sde: bool) -> None:
    env = RandomEnv(spaces.Box(-np.inf, np.inf, (2,)))
    with pytest.raises(SpaceError, match="finite bounds"):
        TRPO("MlpPolicy", env, use_sde=use_sde, policy_kwargs={"squash_output": True})


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
        (spaces.MultiDiscrete([[2], [3]]), spaces.MultiDiscrete([2, 3])),
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
        model.policy.action_net.bias += 30.0
    model.learn(64)
    rollout = next(model.rollout_buffer.get())
    assert rollout.actions.abs().min() > 20  # the buffer keeps the Gaussian's actions
    action, _ = model.predict(np.zeros(3, np.float32))
    np.testing.assert_array_equal(action, [6.0, 6.0])  # the environment's are in bounds
    fresh = TRPO("MlpPolicy", env, **SQUASH)
    with torch.no_grad():
        fresh.policy.action_net.bias += 30.0
        # The policy that collected the rollout; learn() has changed it.
        log_prob = fresh.policy.get_distribution(rollout.observations).log_prob(rollout.actions)
    assert torch.isfinite(log_prob).all()
    # Rounding of a float32 sum near 30, squared and over a variance of one.
    torch.testing.assert_close(rollout.old_log_prob, log_prob, atol=1e-3, rtol=1e-3)


def test_actions_without_bounds_are_supported() -> None:
    space = spaces.Box(np.array([-np.inf, 0.0], "f4"), np.array([np.inf, 1.0], "f4"))
    model = TRPO("MlpPolicy", RandomEnv(space), n_steps=64, batch_size=64, seed=0).learn(128)
    with torch.no_grad():
        model.policy.action_net.bias += 1e6
    action, _ = model.predict(np.zeros(3, np.float32), deterministic=True)
    assert action[0] > 9e5
    assert action[1] == 1.0


def test_sub_sampling_supports_observations_with_keys() -> None:
    """sb3-contrib fails here: it slices the dict."""
    space = spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Discrete(2)})
    env = RandomEnv(spaces.Discrete(2), space)
    TRPO("MultiInputPolicy", env, n_steps=64, batch_size=64, sub_sampling_factor=3).learn(64)


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
    model.policy.save(tmp_path / "alone")
    alone = type(model.policy).load(tmp_path / "alone")
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


def learned(n_updates: int = 4, generic: bool = False, **kwargs: Any) -> TRPO:
    env = DummyVecEnv([lambda: RandomEnv(spaces.Box(-1, 1, (3,)))] * 2)
    arguments = {"n_steps": 64, "batch_size": 64, "n_critic_updates": 3, "seed": 0, **kwargs}
    model = TRPO("MlpPolicy", env, **arguments)
    with forced_path(generic=generic):
        return model.learn(n_updates * 128)


def parameters(model: TRPO) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.policy.parameters()])


def first_moments(model: TRPO) -> torch.Tensor:
    state = model.policy.optimizer.state_dict()["state"]
    return torch.cat([each["exp_avg"].flatten() for each in state.values()])


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


def test_the_true_kl_is_summed_over_the_dimensions() -> None:
    logged = learned(n_updates=2).logger.name_to_value
    assert logged["train/kl_true"] == pytest.approx(3 * logged["train/kl_divergence_loss"]) != 0


def test_a_rollout_beyond_the_last_step_keeps_the_final_trust_region() -> None:
    model = TRPO("MlpPolicy", "CartPole-v1", n_steps=128, target_kl_end=0.001, seed=0)
    model.learn(50)
    assert model.num_timesteps == 128
    assert model.current_target_kl == pytest.approx(0.001)


def test_learning_rate_end_is_refused_beside_a_schedule() -> None:
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

    def product(chosen: Any, every: int = 1) -> torch.Tensor:
        actor: Actor = AutogradActor(model.policy, chosen)
        if not generic:
            actor = MlpActor(model.policy, mlp, chosen)
        with torch.no_grad():
            old = copy.copy(actor.distribution())
        actor.distribution()
        return actor.fisher_vector_product(old, "mean", damping=0.1, every=every)(vector)

    expected = product(observations[::10])
    sub_sampled = product(observations, every=10)
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
    original = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self, *a: steps.append(1) or original(self, *a)
    )
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


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_scaled_returns_are_of_order_one_for_any_reward_scale(scale: float) -> None:
    class Scaled(RandomEnv):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, reward, terminated, truncated, info = super().step(action)
            return observation, scale * (reward + 5), terminated, truncated, info

    env = DummyVecEnv([lambda: Monitor(Scaled(spaces.Discrete(3)))] * 2)
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, scale_returns=True)
    model.learn(6 * 128)
    assert 0.2 < model.rollout_buffer.returns.std() < 5
    # Episode statistics keep the environment's unit.
    assert np.mean([episode["r"] for episode in model.ep_info_buffer]) > 20 * scale


@pytest.mark.parametrize("ends", ["by itself", "at a time limit"])
def test_the_return_scale_is_independent_of_the_critic(ends: str) -> None:
    """Otherwise a critic that learns too fast would inflate its own scale."""

    class Constant(RandomEnv):
        def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            self.steps += 1
            end, limit = self.steps >= self.length, ends == "at a time limit"
            return self.observation_space.sample(), 10.0, end and not limit, end and limit, {}

    env = DummyVecEnv([lambda: Constant(spaces.Discrete(3))] * 2)
    model = TRPO("MlpPolicy", env, 1e-2, n_steps=128, batch_size=64, seed=0, scale_returns=True)
    model.learn(12 * 256)
    sums = 10 * np.cumsum(0.99 ** np.arange(20))
    # Rollouts end within episodes, so not every step of an episode is seen equally often.
    assert deviation(model.return_moments) == pytest.approx(sums.std(), rel=0.02)


def test_the_running_deviation_equals_that_of_all_returns() -> None:
    moments = NO_RETURNS
    assert deviation(moments) == 1.0
    returns = np.random.default_rng(0).normal(3, 7, size=(10, 100))
    for part in returns:
        moments = with_returns(moments, part)
    # RunningMeanStd starts with a count of 1e-4 at zero mean and unit variance.
    assert deviation(moments) == pytest.approx(returns.std(), rel=1e-4)


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="'mean' or 'sum'"):
        TRPO("MlpPolicy", "CartPole-v1", kl_reduction="max")  # type: ignore[arg-type]


def test_moments_of_large_returns_are_finite() -> None:
    large = np.full(4096, 1e18, np.float32) * np.resize([1, -1], 4096).astype(np.float32)
    assert with_returns(NO_RETURNS, large)["var"] == pytest.approx(1e36, rel=1e-3)


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
    rms_before = (env.obs_rms.mean.copy(), env.obs_rms.count, env.ret_rms.var)
    inner.explode = True
    with np.errstate(all="ignore"), forced_path(generic=generic):
        model.learn(64, reset_num_timesteps=False)
    assert model.logger.name_to_value["train/refused_updates"] == 1
    assert "finite" in model.logger.name_to_value["train/refusal"]
    assert torch.equal(parameters(model), policy_before)
    optimizer_now = model.policy.optimizer.state_dict()["state"]
    torch.testing.assert_close(optimizer_now, optimizer_before, rtol=0, atol=0)
    assert model.return_moments == moments_before
    assert np.array_equal(env.obs_rms.mean, rms_before[0])
    assert (env.obs_rms.count, env.ret_rms.var) == rms_before[1:]
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
    assert "finite" in model.logger.name_to_value["train/refusal"]
    assert torch.equal(parameters(model), policy_before)
    assert torch.equal(first_moments(model), optimizer_before)


class Doubling(RolloutBuffer):
    """A buffer that returns other samples than it was filled with."""

    def get(self, batch_size: int | None = None) -> Any:
        for samples in super().get(batch_size):
            yield samples._replace(returns=2 * samples.returns)


def test_a_custom_rollout_buffer_trains_both_networks() -> None:
    trained = [
        algorithm(
            "MlpPolicy",
            "Pendulum-v1",
            n_steps=64,
            batch_size=64,
            seed=0,
            rollout_buffer_class=Doubling,
        ).learn(128)
        for algorithm in (TRPO, sb3_contrib.TRPO)
    ]
    ours, theirs = (model.policy.state_dict() for model in trained)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)  # as in test_trpo
