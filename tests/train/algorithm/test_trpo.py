"""TRPO is a drop-in replacement for sb3-contrib's: the same interface and the same update."""

from __future__ import annotations

import copy
import inspect
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import sb3_contrib
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch import nn

from tests.train.environments import RandomEnv
from tests.train.mlp.policies import FROM_INPUT, OwnNetworks
from trpo_deploy import TRPO
from trpo_deploy.errors import TrainingError
from trpo_deploy.train.algorithm.paths import update_path
from trpo_deploy.train.algorithm.trpo import MAX_REFUSALS, PolicyStep
from trpo_deploy.train.update.samples import draw_policy_samples

VECTOR = spaces.Box(-1, 1, (3,))
IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
KEYS = spaces.Dict({"image": IMAGE, "vector": VECTOR, "mode": spaces.Discrete(3)})
FLAT_KEYS = spaces.Dict(
    {
        "vector": VECTOR,
        "mode": spaces.Discrete(3),
        "digits": spaces.MultiDiscrete([2, 3]),
        "bits": spaces.MultiBinary(2),
    }
)
SEPARATE = {"policy_kwargs": {"share_features_extractor": False}}


class WithoutExtractor(ActorCriticPolicy):
    """A policy with one layer, and methods of its own instead of SB3's parts."""

    def _build(self, lr_schedule: Any) -> None:
        self.layer = nn.Linear(3, 3)
        self.log_std = nn.Parameter(torch.zeros(2))
        self.optimizer = self.optimizer_class(self.parameters(), lr_schedule(1))

    def forward(self, obs: Any, deterministic: bool = False) -> Any:
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic)
        return actions, self.predict_values(obs), distribution.log_prob(actions)

    def get_distribution(self, obs: Any) -> Any:
        return self.action_dist.proba_distribution(self.layer(obs)[:, :2], self.log_std)

    def predict_values(self, obs: Any) -> Any:
        return self.layer(obs)[:, 2:]


class WithStatistics(FlattenExtractor):
    """Has buffers as well as parameters."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.norm = nn.BatchNorm1d(self.features_dim)

    def forward(self, observations: Any) -> Any:
        return self.norm(super().forward(observations))


class WithDropout(WithStatistics):
    """Evaluates as another function in each pass of an update."""

    def forward(self, observations: Any) -> Any:
        return nn.functional.dropout(super().forward(observations), training=self.training)


CASES: dict[str, tuple[spaces.Space[Any], spaces.Space[Any], dict[str, Any]]] = {
    "box": (VECTOR, spaces.Box(-1, 1, (2,)), {}),
    "box of two axes": (spaces.Box(-1, 1, (2, 3)), spaces.Box(-1, 1, (2, 2)), {}),
    "discrete": (VECTOR, spaces.Discrete(3), {}),
    "multi discrete": (VECTOR, spaces.MultiDiscrete([2, 3]), {}),
    "multi binary": (VECTOR, spaces.MultiBinary(2), {}),
    "discrete observation": (spaces.Discrete(4), spaces.Discrete(3), {}),
    "multi discrete observation": (spaces.MultiDiscrete([2, 3]), spaces.Discrete(3), {}),
    "multi binary observation": (spaces.MultiBinary([2, 2]), spaces.Discrete(3), {}),
    "gSDE": (VECTOR, spaces.Box(-1, 1, (2,)), {"use_sde": True, "sde_sample_freq": 4}),
    "gSDE squashed": (
        VECTOR,
        spaces.Box(-2, 3, (2,)),
        {"use_sde": True, "policy_kwargs": {"squash_output": True, "full_std": False}},
    ),
    "gSDE expln": (
        VECTOR,
        spaces.Box(-1, 1, (2,)),
        {"use_sde": True, "policy_kwargs": {"use_expln": True}},
    ),
    "image, shared extractor": (IMAGE, spaces.Discrete(3), {"policy": "CnnPolicy"}),
    "image, separate": (IMAGE, spaces.Discrete(3), {"policy": "CnnPolicy", **SEPARATE}),
    "keys, shared extractor": (KEYS, spaces.Box(-1, 1, (2,)), {"policy": "MultiInputPolicy"}),
    "keys, separate": (KEYS, spaces.Discrete(3), {"policy": "MultiInputPolicy", **SEPARATE}),
    "flat keys": (FLAT_KEYS, spaces.Box(-1, 1, (2,)), {"policy": "MultiInputPolicy"}),
    "flat keys, separate": (
        FLAT_KEYS,
        spaces.Discrete(3),
        {"policy": "MultiInputPolicy", **SEPARATE},
    ),
    "flat keys, normalised": (
        spaces.Dict({"vector": VECTOR, "matrix": spaces.Box(-1, 1, (2, 2))}),
        spaces.Box(-1, 1, (2,)),
        {"policy": "MultiInputPolicy", "normalize": True},
    ),
    **{
        str(activation()): (
            VECTOR,
            spaces.Box(-1, 1, (2,)),
            {"policy_kwargs": {"activation_fn": activation}},
        )
        for activation in FROM_INPUT
    },
    "own networks": (VECTOR, spaces.Box(-1, 1, (2,)), {"policy": OwnNetworks}),
    "own networks, separate": (
        spaces.Discrete(3),
        spaces.MultiDiscrete([2, 3]),
        {"policy": OwnNetworks, **SEPARATE},
    ),
    "own networks, gSDE": (
        VECTOR,
        spaces.Box(-1, 1, (2,)),
        {"policy": OwnNetworks, "use_sde": True, "sde_sample_freq": 4},
    ),
    "own methods": (VECTOR, spaces.Box(-1, 1, (2,)), {"policy": WithoutExtractor}),
    "batch norm": (
        VECTOR,
        spaces.Discrete(3),
        {"policy_kwargs": {"features_extractor_class": WithStatistics}},
    ),
    "dropout": (
        VECTOR,
        spaces.Box(-1, 1, (2,)),
        {"policy_kwargs": {"features_extractor_class": WithDropout}},
    ),
    "empty net_arch": (VECTOR, spaces.Discrete(3), {"policy_kwargs": {"net_arch": []}}),
    "other net_arch": (
        VECTOR,
        spaces.Discrete(3),
        {
            "policy_kwargs": {
                "net_arch": {"pi": [8], "vf": [16, 4]},
                "activation_fn": torch.nn.ReLU,
                "ortho_init": False,
                "optimizer_class": torch.optim.RMSprop,
                "optimizer_kwargs": {"eps": 1e-4},
            }
        },
    ),
    "separate extractors": (VECTOR, spaces.Box(-1, 1, (2,)), SEPARATE),
    "log_std_init": (VECTOR, spaces.Box(-1, 1, (2,)), {"policy_kwargs": {"log_std_init": -1.0}}),
    "sub-sampled": (VECTOR, spaces.Box(-1, 1, (2,)), {"sub_sampling_factor": 3}),
    "normalised": (VECTOR, spaces.Box(-1, 1, (2,)), {"normalize": True}),
    "normalised gSDE": (VECTOR, spaces.Box(-1, 1, (2,)), {"normalize": True, "use_sde": True}),
    "raw advantages": (VECTOR, spaces.Discrete(3), {"normalize_advantage": False}),
}


def model_of(case: str, algorithm: type[Any] = TRPO, **others: Any) -> Any:
    """A model of a case, with rollouts of 64 samples."""
    observation_space, action_space, changes = CASES[case]
    env: VecEnv = DummyVecEnv([lambda: RandomEnv(action_space, observation_space)] * 2)
    arguments = {"policy": "MlpPolicy", "n_steps": 32, "n_critic_updates": 3, **changes, **others}
    if arguments.pop("normalize", False):
        env = VecNormalize(env, clip_obs=1.5)
    return algorithm(env=env, **arguments)


def train_once(algorithm: type[Any], case: str, seed: int) -> dict[str, torch.Tensor]:
    sizes = {"batch_size": 32, "target_kl": 0.02}
    model = model_of(case, algorithm, seed=seed, device="cpu", **sizes)
    # Two updates: the second starts from all state that the first changed.
    model.learn(2 * 64)
    assert model._n_updates == 2
    state: dict[str, torch.Tensor] = model.policy.state_dict()
    return state


# Dropout has its own test. One seed for networks of images, which take seconds.
SEEDED = [(case, 0) for case in CASES if case != "dropout"]
SEEDED += [(case, 1) for case in CASES if not case.startswith(("image", "keys", "dropout"))]


@pytest.mark.parametrize(("case", "seed"), SEEDED)
def test_the_update_equals_sb3_contribs(case: str, seed: int) -> None:
    ours = train_once(TRPO, case, seed)
    theirs = train_once(sb3_contrib.TRPO, case, seed)
    # float32 sums in another order: 1e-7 after one update, at most 3e-6 seen after two.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_update_equals_sb3_contribs_where_the_kl_is_not_convex(seed: int) -> None:
    """Old and new policy drop other units, so their KL has negative curvatures too."""
    ours = train_once(TRPO, "dropout", seed)
    theirs = train_once(sb3_contrib.TRPO, "dropout", seed)
    # Such a system is ill-conditioned and amplifies rounding: 2e-4 seen, and steps of 0.05.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)


def test_constructor_and_learn_have_sb3_contribs_parameters() -> None:
    ours = inspect.signature(TRPO.__init__).parameters
    theirs = inspect.signature(sb3_contrib.TRPO.__init__).parameters
    shared = list(ours)[: len(theirs)]
    assert shared == list(theirs)
    assert {n: ours[n].default for n in shared} == {n: p.default for n, p in theirs.items()}
    extra = [parameter for name, parameter in ours.items() if name not in theirs]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in extra)
    learn, theirs_learn = (
        [(parameter.name, parameter.default) for parameter in signature.parameters.values()]
        for signature in map(inspect.signature, (TRPO.learn, sb3_contrib.TRPO.learn))
    )
    assert learn == theirs_learn


@pytest.mark.parametrize("method", ["hessian_vector_product", "_compute_actor_grad"])
def test_a_subclass_that_replaces_a_part_of_sb3_contribs_update_is_refused(method: str) -> None:
    assert hasattr(sb3_contrib.TRPO, method)
    with pytest.raises(TypeError, match=f"Own has the method {method} .* replace policy_step"):
        type("Own", (TRPO,), {method: lambda *_: None})


def test_a_subclass_may_replace_the_steps_of_learn() -> None:
    calls: list[str] = []

    class Own(TRPO):
        def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
            calls.append("collect")
            return super().collect_rollouts(*args, **kwargs)

        def policy_step(self, *args: Any) -> PolicyStep:
            calls.append("step")
            return super().policy_step(*args)

        def train(self) -> None:
            calls.append("train")
            super().train()

    Own("MlpPolicy", "Pendulum-v1", n_steps=64, batch_size=64, n_critic_updates=1).learn(64)
    assert calls == ["collect", "train", "step"]


def test_the_published_example_works(tmp_path: Path) -> None:
    """The usage example of the published TRPO page, with its import changed."""
    env = gymnasium.make("Pendulum-v1", render_mode=None)
    model = TRPO("MlpPolicy", env, verbose=0)
    model.learn(total_timesteps=10_000, log_interval=4)
    model.save(str(tmp_path / "trpo_pendulum"))
    del model
    model = TRPO.load(str(tmp_path / "trpo_pendulum"))
    obs, _ = env.reset()
    for _ in range(10):
        action, _states = model.predict(obs, deterministic=True)
        obs, _reward, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            obs, _ = env.reset()
    assert TRPO("MlpPolicy", "Pendulum-v1").env is not None


def test_each_opens_what_the_other_saved(tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]))
    observation = np.zeros((1, 3), np.float32)
    for first, second in ((TRPO, sb3_contrib.TRPO), (sb3_contrib.TRPO, TRPO)):
        model = first("MlpPolicy", env, n_steps=64, batch_size=64, seed=0).learn(128)
        model.save(str(tmp_path / "policy"))
        loaded = second.load(str(tmp_path / "policy"), env=env)
        expected, _ = model.predict(observation, deterministic=True)
        found, _ = loaded.predict(observation, deterministic=True)
        np.testing.assert_array_equal(found, expected)
        loaded.learn(64)


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,))])
def test_an_accepted_step_improves_the_surrogate_inside_the_trust_region(
    space: spaces.Space[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    updates: list[PolicyStep] = []
    policy_step = TRPO.policy_step

    def recorded(*arguments: Any) -> PolicyStep:
        updates.append(policy_step(*arguments))
        return updates[-1]

    monkeypatch.setattr(TRPO, "policy_step", recorded)
    env = DummyVecEnv([lambda: RandomEnv(space)] * 2)
    TRPO("MlpPolicy", env, n_steps=64, target_kl=0.003, seed=0).learn(10 * 128)
    accepted = [update for update in updates if update.accepted]
    assert len(accepted) >= 5
    for update in accepted:
        assert 0 < update.kl < 0.003
        assert update.surrogate > update.surrogate_before
        # To first order the gain is what the gradient predicts.
        gain = update.surrogate - update.surrogate_before
        assert gain == pytest.approx(update.expected_gain, rel=0.5)


def poisoned(value: float) -> TRPO:
    """A model with a full rollout, one of whose advantages is ``value``."""
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))])
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0).learn(64)
    model.rollout_buffer.advantages[3] = value
    return model


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_policy_step_on_advantages_that_are_not_finite_is_refused(value: float) -> None:
    model = poisoned(value)
    before = {name: p.clone() for name, p in model.policy.named_parameters()}
    drawn = draw_policy_samples(model.rollout_buffer, 1, 1)
    step = model.policy_step(drawn, update_path(model.policy).actor(drawn.samples.observations))
    assert step.refusal is not None
    for name, parameter in model.policy.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0)


def test_consecutive_refusals_abort_the_run() -> None:
    model = poisoned(np.nan)
    for _ in range(MAX_REFUSALS - 1):
        model.train()
    with pytest.raises(TrainingError, match="refused"):
        model.train()


def test_refusals_with_accepted_updates_between_them_do_not_abort_the_run() -> None:
    model = poisoned(np.nan)
    for i in range(2 * MAX_REFUSALS):
        model.rollout_buffer.advantages[3] = np.nan if i % 2 else 0.0
        model.train()
    assert model.logger.name_to_value["train/refused_updates"] == MAX_REFUSALS


def test_a_refused_update_restores_the_layers_buffers() -> None:
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))])
    kwargs = {"features_extractor_class": WithStatistics}
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, policy_kwargs=kwargs)
    model.learn(64)
    model.rollout_buffer.advantages[3] = np.nan
    before = copy.deepcopy(model.policy.state_dict())
    model.train()
    torch.testing.assert_close(model.policy.state_dict(), before, rtol=0, atol=0)


def test_constant_rewards_keep_parameters_finite() -> None:
    class Constant(RandomEnv):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, _, terminated, truncated, info = super().step(action)
            return observation, 0.0, terminated, truncated, info

    env = DummyVecEnv([lambda: Constant(spaces.Discrete(3))])
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0).learn(256)
    assert all(bool(torch.isfinite(p).all()) for p in model.policy.parameters())


def test_a_zip_opens_where_this_package_is_not_installed(tmp_path: Path) -> None:
    TRPO("MlpPolicy", "Pendulum-v1", n_steps=64, batch_size=64, scale_returns=True).learn(64).save(
        tmp_path / "policy"
    )
    program = (
        "import sys; sys.modules['trpo_deploy'] = None\n"  # an import of it fails
        "import sb3_contrib\n"
        "sb3_contrib.TRPO.load('policy')"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


SHIPPED = sorted(Path(__file__).parents[3].glob("models/*-v[45]/policy.zip"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_policies_refer_to_no_class_of_this_package(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        assert b"trpo_deploy" not in file.read("data")


@pytest.mark.parametrize("algorithm", [TRPO, sb3_contrib.TRPO])
def test_a_rollout_of_one_sample_cannot_be_normalized(algorithm: type[Any]) -> None:
    with pytest.raises(AssertionError, match=r"n_steps \* n_envs.*must be greater than 1"):
        algorithm("MlpPolicy", "Pendulum-v1", n_steps=1)
    algorithm("MlpPolicy", "Pendulum-v1", n_steps=1, batch_size=1, normalize_advantage=False)


def test_one_sample_left_by_sub_sampling_cannot_be_normalized() -> None:
    with pytest.raises(AssertionError, match="greater than sub_sampling_factor=64"):
        TRPO("MlpPolicy", "Pendulum-v1", n_steps=64, batch_size=64, sub_sampling_factor=64)
    TRPO("MlpPolicy", "Pendulum-v1", n_steps=64, batch_size=64, sub_sampling_factor=63)


def test_a_sub_sampling_factor_of_zero_or_one_keeps_all_samples_as_in_sb3_contrib() -> None:
    policies = []
    for factor in (0, 1):
        env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))])
        model = TRPO(
            "MlpPolicy", env, n_steps=64, batch_size=64, seed=0, sub_sampling_factor=factor
        )
        policies.append(model.learn(128).policy.state_dict())
    torch.testing.assert_close(*policies, rtol=0, atol=0)


def test_a_truncated_mini_batch_warns() -> None:
    # SB3's own test and users' filters match the last part.
    says = "not a multiple of batch_size=100.*there will be a truncated mini-batch of size 28"
    with pytest.warns(UserWarning, match=says):
        TRPO("MlpPolicy", "CartPole-v1", n_steps=128, batch_size=100)


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
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)  # as above
