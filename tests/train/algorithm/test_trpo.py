"""TRPO as a user sees it, and as sb3-contrib computes it."""

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
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch import nn

from tests.train.environments import RandomEnv
from trpo_deploy import TRPO
from trpo_deploy.errors import TrainingError
from trpo_deploy.train.algorithm import trpo as trpo_module

VECTOR = spaces.Box(-1, 1, (3,))
IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
KEYS = spaces.Dict({"image": IMAGE, "vector": VECTOR, "mode": spaces.Discrete(3)})
SEPARATE = {"policy_kwargs": {"share_features_extractor": False}}

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
    """A model of a case, with rollouts of 64 steps."""
    observation_space, action_space, changes = CASES[case]
    env: VecEnv = DummyVecEnv([lambda: RandomEnv(action_space, observation_space)] * 2)
    arguments = {"policy": "MlpPolicy", "n_steps": 32, "n_critic_updates": 3, **changes, **others}
    if arguments.pop("normalize", False):
        env = VecNormalize(env, clip_obs=1.5)
    return algorithm(env=env, **arguments)


def train_once(algorithm: type[Any], case: str, seed: int) -> dict[str, torch.Tensor]:
    sizes = {"batch_size": 32, "target_kl": 0.02}
    model = model_of(case, algorithm, seed=seed, device="cpu", **sizes)
    # Two updates: the second starts from what the first made of all state.
    model.learn(2 * 64)
    assert model._n_updates == 2
    state: dict[str, torch.Tensor] = model.policy.state_dict()
    return state


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_the_update_is_that_of_sb3_contrib(case: str, seed: int) -> None:
    ours = train_once(TRPO, case, seed)
    theirs = train_once(sb3_contrib.TRPO, case, seed)
    # float32 sums in another order: 1e-7 after one update, at most 3e-6 seen after two.
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_the_constructor_is_that_of_sb3_contrib() -> None:
    ours = inspect.signature(TRPO.__init__).parameters
    theirs = inspect.signature(sb3_contrib.TRPO.__init__).parameters
    shared = list(ours)[: len(theirs)]
    assert shared == list(theirs)
    assert {n: ours[n].default for n in shared} == {n: p.default for n, p in theirs.items()}
    extra = [parameter for name, parameter in ours.items() if name not in theirs]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in extra)
    ours, theirs = (
        [(parameter.name, parameter.default) for parameter in signature.parameters.values()]
        for signature in map(inspect.signature, (TRPO.learn, sb3_contrib.TRPO.learn))
    )
    assert ours == theirs


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


def test_saved_files_go_both_ways(tmp_path: Path) -> None:
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
def test_an_accepted_step_gains_and_stays_inside_of_the_trust_region(
    space: spaces.Space[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = []
    original = TRPO._update_actor
    monkeypatch.setattr(
        TRPO, "_update_actor", lambda *a: updates.append(original(*a)) or updates[-1]
    )
    env = DummyVecEnv([lambda: RandomEnv(space)] * 2)
    TRPO("MlpPolicy", env, n_steps=64, target_kl=0.003, seed=0).learn(10 * 128)
    accepted = [update for update in updates if update.accepted]
    assert len(accepted) >= 5
    for update in accepted:
        assert 0 < update.kl < 0.003
        assert update.surrogate > update.surrogate_before
        # To first order the gain is what the gradient promised.
        gain = update.surrogate - update.surrogate_before
        assert gain == pytest.approx(update.expected_gain, rel=0.5)


def poisoned(value: float) -> TRPO:
    """A model whose rollout is complete but for one number."""
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))])
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0).learn(64)
    model.rollout_buffer.advantages[3] = value
    return model


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_step_without_usable_numbers_is_refused(value: float) -> None:
    model = poisoned(value)
    before = {name: p.clone() for name, p in model.policy.named_parameters()}
    update = model._update_actor(next(model.rollout_buffer.get()))
    assert update.refusal is not None
    for name, parameter in model.policy.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0)


def test_refusals_in_a_row_stop_the_run() -> None:
    model = poisoned(np.nan)
    for _ in range(trpo_module.MAX_REFUSALS - 1):
        model.train()
    with pytest.raises(TrainingError, match="refused"):
        model.train()


def test_refusals_that_are_not_in_a_row_do_not() -> None:
    model = poisoned(np.nan)
    for i in range(2 * trpo_module.MAX_REFUSALS):
        model.rollout_buffer.advantages[3] = np.nan if i % 2 else 0.0
        model.train()
    assert model._n_refusals == trpo_module.MAX_REFUSALS


class WithStatistics(FlattenExtractor):
    """Has buffers beside its parameters."""

    def __init__(self, space: Any) -> None:
        super().__init__(space)
        self.norm = nn.BatchNorm1d(self.features_dim)

    def forward(self, observations: Any) -> Any:
        return self.norm(super().forward(observations))


def test_a_refused_update_leaves_buffers_as_they_were() -> None:
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))])
    kwargs = {"features_extractor_class": WithStatistics}
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, policy_kwargs=kwargs)
    model.learn(64)
    model.rollout_buffer.advantages[3] = np.nan
    before = copy.deepcopy(model.policy.state_dict())
    model.train()
    torch.testing.assert_close(model.policy.state_dict(), before, rtol=0, atol=0)


def test_constant_rewards_give_no_nan() -> None:
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
def test_shipped_policies_refer_to_no_class_of_ours(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        assert b"trpo_deploy" not in file.read("data")


@pytest.mark.parametrize("algorithm", [TRPO, sb3_contrib.TRPO])
def test_one_sample_has_no_spread_to_normalise_by(algorithm: type[Any]) -> None:
    with pytest.raises(AssertionError, match=r"n_steps \* n_envs.*must be greater than 1"):
        algorithm("MlpPolicy", "Pendulum-v1", n_steps=1)
    algorithm("MlpPolicy", "Pendulum-v1", n_steps=1, batch_size=1, normalize_advantage=False)


def test_one_sample_that_is_left_has_no_spread_either() -> None:
    with pytest.raises(AssertionError, match="greater than sub_sampling_factor=64"):
        TRPO("MlpPolicy", "Pendulum-v1", n_steps=64, batch_size=64, sub_sampling_factor=64)
    TRPO("MlpPolicy", "Pendulum-v1", n_steps=64, batch_size=64, sub_sampling_factor=63)


def test_no_sub_sampling_is_one_or_zero_as_in_sb3_contrib() -> None:
    policies = []
    for factor in (0, 1):
        env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))])
        model = TRPO(
            "MlpPolicy", env, n_steps=64, batch_size=64, seed=0, sub_sampling_factor=factor
        )
        policies.append(model.learn(128).policy.state_dict())
    torch.testing.assert_close(*policies, rtol=0, atol=0)


def test_a_truncated_mini_batch_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="not a multiple of batch_size=100"):
        TRPO("MlpPolicy", "CartPole-v1", n_steps=128, batch_size=100)
