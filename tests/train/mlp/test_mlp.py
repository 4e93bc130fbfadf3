"""The unrolled path gives what autograd gives, and is taken for nothing that it does not know."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn
from torch.distributions import Categorical
from torch.nn.utils import prune

from tests.train.environments import RandomEnv
from trpo_deploy import TRPO
from trpo_deploy.train.algorithm import trpo as trpo_module
from trpo_deploy.train.algorithm.critic import NOT_FINITE, fit_critic
from trpo_deploy.train.algorithm.trust_region import (
    actor_parameters,
    fisher_vector_product,
    flat_gradient,
    mean_kl,
)
from trpo_deploy.train.mlp import step_numpy
from trpo_deploy.train.mlp.actor import MlpActor
from trpo_deploy.train.mlp.critic import MlpRegression, can_regress
from trpo_deploy.train.mlp.network import DenseProducts, standard_mlp
from trpo_deploy.train.mlp.rollout import _categorical, _normal, can_collect, generalized_advantages
from trpo_deploy.train.vec_env.sync import SyncVecEnv

ACTION_SPACES = {
    "box": spaces.Box(-1, 1, (2,)),
    "discrete": spaces.Discrete(3),
    "multi discrete": spaces.MultiDiscrete([2, 3]),
    "multi binary": spaces.MultiBinary(3),
}
GSDE: dict[str, dict[str, Any]] = {
    "defaults": {},
    "one deviation a feature": {"full_std": False},
    "expln": {"use_expln": True, "log_std_init": 0.0},  # on both sides of the change of formula
    "expln, one deviation a feature": {
        "use_expln": True,
        "full_std": False,
        "log_std_init": 0.0,
    },
    "squashed": {"squash_output": True, "log_std_init": -1.0},
    "no hidden layer": {"net_arch": []},
}
ACTIVATIONS = [nn.Tanh, nn.ReLU, nn.Sigmoid, nn.ELU, nn.LeakyReLU]


def policy_of(action_space: spaces.Space[Any], inputs: int = 3, **kwargs: Any) -> ActorCriticPolicy:
    torch.manual_seed(0)
    arguments = {"net_arch": [8, 8], **kwargs}
    observations = spaces.Box(-1, 1, (inputs,))
    policy = ActorCriticPolicy(observations, action_space, lambda _: 1e-3, **arguments)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.3 * torch.randn_like(parameter)  # off the flat start
    return policy


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("space", ACTION_SPACES.values(), ids=ACTION_SPACES)
def test_the_fisher_vector_product_is_that_of_double_backward(
    space: spaces.Space[Any], activation: type[nn.Module], reduction: Any
) -> None:
    check_fisher_vector_product(policy_of(space, activation_fn=activation), reduction)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("option", GSDE)
def test_the_fisher_vector_product_of_gsde_is_that_of_double_backward(
    option: str, reduction: Any
) -> None:
    policy = policy_of(ACTION_SPACES["box"], use_sde=True, **GSDE[option])
    check_fisher_vector_product(policy, reduction)


@pytest.mark.parametrize("inputs", [3, 30])
@pytest.mark.parametrize("actions", [1, 2, 9])
@pytest.mark.parametrize("net_arch", [[], [1], [5, 30], [30, 5], [20, 40, 33]], ids=str)
def test_the_fisher_vector_product_takes_layers_of_any_width(
    net_arch: list[int], actions: int, inputs: int
) -> None:
    space = spaces.Box(-1, 1, (actions,))
    check_fisher_vector_product(policy_of(space, inputs, net_arch=net_arch), "mean")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("net_arch", "keeps"),
    [([20, 40, 33], True), ([5, 32], True), ([40, 31], False), ([40, 31, 64], False)],
    ids=str,
)
def test_slopes_kept_for_wide_layers_give_the_same_product(
    net_arch: list[int], keeps: bool, activation: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    keep_slopes = DenseProducts.keep_slopes

    def keep(products: DenseProducts) -> None:
        keep_slopes(products)
        kept.append(len(products._slopes))

    monkeypatch.setattr(DenseProducts, "keep_slopes", keep)
    space = spaces.Box(-1, 1, (2,))
    policy = policy_of(space, net_arch=net_arch, activation_fn=activation)
    check_fisher_vector_product(policy, "mean")
    assert kept == [len(net_arch) - 1 if keeps else 0] * 2


def test_slopes_take_no_more_memory_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    mlp = standard_mlp(policy_of(spaces.Box(-1, 1, (2,)), net_arch=[32, 32]))
    assert mlp is not None
    for most, kept in ((2 * 10 * 32, 1), (2 * 10 * 32 - 1, 0)):
        monkeypatch.setattr("trpo_deploy.train.mlp.network._MOST_SLOPES", most)
        products = DenseProducts(mlp.actor, 10)
        with torch.no_grad():
            products.forward(torch.randn(10, 3))
            products.keep_slopes()
        assert len(products._slopes) == kept


def check_fisher_vector_product(policy: ActorCriticPolicy, reduction: Any) -> None:
    observations = torch.randn(100, *policy.observation_space.shape)
    mlp = standard_mlp(policy)
    assert mlp is not None
    actor = MlpActor(policy, mlp, observations)
    check_derivatives(policy, actor, observations, reduction)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    # Its memory is kept, and nothing in it may be of the parameters of before.
    check_derivatives(policy, actor, observations, reduction)


def check_derivatives(
    policy: ActorCriticPolicy, actor: MlpActor, observations: torch.Tensor, reduction: Any
) -> None:
    with torch.no_grad():
        old = copy.copy(policy.get_distribution(observations))
    kl = mean_kl(policy.get_distribution(observations), old, reduction)
    parameters, gradient = actor_parameters(kl, policy)
    expected = fisher_vector_product(gradient, parameters, damping=0.1)
    assert [id(p) for p in actor.parameters] == [id(p) for p in parameters]
    with torch.no_grad():
        actions = old.mode()
        actions = 0.9 * actions + 0.01 if actions.is_floating_point() else actions
    actions = actions.round() if isinstance(policy.action_space, spaces.MultiBinary) else actions
    weights = torch.randn(len(observations))
    objectives = [
        (weights * distribution().log_prob(actions)).mean()
        for distribution in (partial(policy.get_distribution, observations), actor.distribution)
    ]
    torch.testing.assert_close(
        actor.gradient(objectives[1]),
        flat_gradient(objectives[0], parameters, keep_graph=False),
        rtol=1e-4,  # float32 sums in another order
        atol=1e-5,
    )
    found = actor.fisher_vector_product(old, reduction, damping=0.1)
    for _ in range(3):
        vector = torch.randn_like(gradient)
        # float32 sums in another order
        torch.testing.assert_close(found(vector), expected(vector), rtol=1e-4, atol=1e-5)


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no hidden layer": {"policy_kwargs": {"net_arch": []}},
    "uneven": {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [16, 4]}}},
    **{
        each.__name__: {"policy_kwargs": {"activation_fn": each}}
        for each in ACTIVATIONS
        if each is not nn.Tanh
    },
    "sub-sampled": {"sub_sampling_factor": 3},
    "fisher sub-sampled": {"fisher_sub_sampling_factor": 3},
    "summed": {"kl_reduction": "sum"},
    "full batch": {"critic_full_batch": True},
    "clipped": {"critic_max_grad_norm": 0.5},
    "truncated mini-batch": {"batch_size": 48},
    "schedules": {"learning_rate_end": 1e-4, "target_kl_end": 0.005},
    "adam's own settings": {
        "policy_kwargs": {"optimizer_kwargs": {"betas": (0.8, 0.9), "eps": 1e-3}}
    },
    **{
        name: {"policy_kwargs": {"optimizer_kwargs": {name: value}}}
        for name, value in {"weight_decay": 0.1, "amsgrad": True, "maximize": True}.items()
    },
    "another optimiser": {"policy_kwargs": {"optimizer_class": torch.optim.SGD}},
}


def patched(generic: bool) -> Any:
    """Both the decision for the update and that for the rollout."""
    decide = (lambda _: None) if generic else standard_mlp
    return mock.patch.object(trpo_module, "standard_mlp", decide)


def trained(
    space: spaces.Space[Any],
    generic: bool,
    n_envs: int = 2,
    observations: spaces.Space[Any] | None = None,
    **kwargs: Any,
) -> TRPO:
    env = DummyVecEnv([lambda: RandomEnv(space, observations)] * n_envs)
    arguments = {"n_steps": 64, "batch_size": 64, "n_critic_updates": 3, "seed": 0, **kwargs}
    model = TRPO("MlpPolicy", env, **arguments)
    assert standard_mlp(model.policy) is not None
    with patched(generic):
        return model.learn(2 * 64 * n_envs)


@pytest.mark.filterwarnings("ignore:The rollout of")
@pytest.mark.parametrize("space", ACTION_SPACES.values(), ids=ACTION_SPACES)
@pytest.mark.parametrize("option", OPTIONS)
def test_both_paths_give_the_same_policy_and_optimiser(
    option: str, space: spaces.Space[Any]
) -> None:
    check_both_paths(space, **OPTIONS[option])


@pytest.mark.parametrize("sde_sample_freq", [-1, 4])
@pytest.mark.parametrize("n_envs", [1, 2])  # for one environment SB3 has a noise of its own
@pytest.mark.parametrize("option", GSDE)
def test_both_paths_give_the_same_policy_and_optimiser_with_gsde(
    option: str, n_envs: int, sde_sample_freq: int
) -> None:
    check_both_paths(
        ACTION_SPACES["box"],
        n_envs,
        use_sde=True,
        sde_sample_freq=sde_sample_freq,
        policy_kwargs=GSDE[option],
    )


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("net_arch", [[], [8]], ids=str)
def test_both_paths_take_observations_of_several_axes_with_gsde(net_arch: list[int]) -> None:
    observations, policy_kwargs = spaces.Box(-1, 1, (3, 4)), {"net_arch": net_arch}
    box = ACTION_SPACES["box"]
    check_both_paths(box, observations=observations, use_sde=True, policy_kwargs=policy_kwargs)


def check_both_paths(space: spaces.Space[Any], n_envs: int = 2, **kwargs: Any) -> None:
    unrolled = trained(space, False, n_envs, **kwargs)
    generic = trained(space, True, n_envs, **kwargs)
    # As against sb3-contrib: float32 sums in another order, over two updates.
    torch.testing.assert_close(
        unrolled.policy.state_dict(), generic.policy.state_dict(), rtol=1e-4, atol=2e-5
    )
    torch.testing.assert_close(
        unrolled.policy.optimizer.state_dict(),
        generic.policy.optimizer.state_dict(),
        rtol=1e-3,
        atol=1e-4,
    )
    losses = [model.logger.name_to_value["train/value_loss"] for model in (unrolled, generic)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


class NotANumber(RandomEnv):
    """Has no number for a reward, once in its life."""

    lived = 0

    def step(self, action: Any) -> Any:
        self.lived += 1
        observation, reward, *others = super().step(action)
        return observation, math.nan if self.lived == 100 else reward, *others


def test_both_paths_go_on_alike_after_a_refused_update() -> None:
    models = []
    for generic in (False, True):
        env = DummyVecEnv([lambda: NotANumber(ACTION_SPACES["box"])] * 2)
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, n_critic_updates=3, seed=0)
        with patched(generic):
            models.append(model.learn(4 * 128))
    assert [model._n_refusals for model in models] == [1, 1]
    ours, generic_one = (model.policy.state_dict() for model in models)
    # As above, over three updates.
    torch.testing.assert_close(ours, generic_one, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 8, 13, 200, 5000])
@pytest.mark.parametrize(("gamma", "gae_lambda"), [(0.99, 0.95), (1.0, 1.0), (0.9, 0.0)])
def test_advantages_are_those_of_sb3s_buffer(n_steps: int, gamma: float, gae_lambda: float) -> None:
    space = spaces.Box(-1, 1, (1,))
    buffer = RolloutBuffer(n_steps, space, space, gamma=gamma, gae_lambda=gae_lambda, n_envs=3)
    random = np.random.default_rng(n_steps)
    buffer.rewards, buffer.values = random.normal(size=(2, n_steps, 3)).astype(np.float32)
    starts = random.random((n_steps + 1, 3)) < [0.0, 0.01, 0.1]
    buffer.episode_starts = starts[:-1].astype(np.float32)
    last = random.normal(size=(1, 3)).astype(np.float32)
    buffer.compute_returns_and_advantage(torch.from_numpy(last[0]), starts[-1])
    values = np.vstack([buffer.values, last])
    with np.errstate(all="raise"):  # as some set it to find where a NaN comes from
        found = generalized_advantages(buffer.rewards, values, starts[1:], gamma, gae_lambda)
    # float32 sums of up to 5,000 terms in another order
    np.testing.assert_allclose(found, buffer.advantages, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 3), (2, 8), (3, 7)], ids=str)
def test_a_rollouts_noise_is_what_its_steps_would_draw(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    expected = [torch.empty(shape).normal_() for _ in range(50)] + [torch.randn(1)]
    torch.manual_seed(1)
    found = _normal(50, shape)
    np.testing.assert_array_equal(found, torch.stack(expected[:-1]).numpy())
    assert torch.randn(1) == expected[-1]  # and the generator is where it would be


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e7])
def test_a_draw_depends_on_the_differences_of_the_logits(offset: float) -> None:
    logits = np.tile(np.float32([0, 2, 1, -1]) + np.float32(offset), (100_000, 1))
    torch.manual_seed(0)
    ours = _categorical(1, len(logits), [4])(0, logits)[:, 0]
    torch.manual_seed(0)
    torchs = Categorical(logits=torch.from_numpy(logits)).sample().numpy()
    # Two clocks that ring at the same time, as far as float32 can tell.
    assert np.count_nonzero(ours != torchs) <= 5


SMALL = """
import sys, threading
from gymnasium import spaces
from tests.train.environments import RandomEnv
from trpo_deploy import TRPO

model = TRPO("MlpPolicy", RandomEnv(spaces.Discrete(3)), n_steps=64, batch_size=64, device="cpu")
"""
LATE = """
threading.Thread(target=lambda: print(model.learn(192).num_timesteps)).start()
"""
WITNESSED = """
class Witness:
    def find_spec(self, name, *_):
        if name == "onnxruntime":
            print(threading.current_thread() is threading.main_thread())

sys.meta_path.insert(0, Witness())
model.learn(192)
"""


@pytest.mark.parametrize(
    ("program", "says"),
    [(LATE, "192"), (WITNESSED, "False")],
    ids=["after the program's last line", "and Ctrl-C finds no extension being imported"],
)
def test_a_program_learns_on(program: str, says: str) -> None:
    code = SMALL + program
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (run.stdout.strip(), run.stderr, run.returncode) == (says, "", 0)


class Meddler(BaseCallback):
    """Changes gSDE's noise between the steps, and ends a rollout in its middle."""

    def _on_step(self) -> bool:
        if self.model.use_sde and self.n_calls % 5 == 0:
            # For as many environments as there are, and for others, which get one noise for all.
            self.model.policy.reset_noise(self.n_calls // 5 % 3 + 1)
        return self.num_timesteps < 100  # in the middle of the first rollout


@pytest.fixture(params=["compiled", "NumPy"])
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to have a step's numbers, the second being that without a C compiler."""
    if request.param == "NumPy":
        monkeypatch.setattr(step_numpy, "compiled", None)
    elif step_numpy.compiled is None:
        pytest.skip("needs a C compiler while the project is installed")
    return str(request.param)


class Rounding(RandomEnv):
    """SB3's actions of a Box of whole numbers are not whole."""

    def step(self, action: Any) -> Any:
        return super().step(np.asarray(action).astype(self.action_space.dtype))


WHOLE_NUMBERS = spaces.Box(-2, 2, (2,), np.int32)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.filterwarnings("ignore:Action space is not")
@pytest.mark.parametrize(
    ("space", "kwargs"),
    [
        *((space, {}) for space in (*ACTION_SPACES.values(), WHOLE_NUMBERS)),
        (spaces.Box(-1, 1, (2, 2)), {"use_sde": True}),
        (WHOLE_NUMBERS, {"use_sde": True}),
        # Actions at their bounds, where a logarithm makes much of the last digit.
        (
            ACTION_SPACES["box"],
            {"use_sde": True, "policy_kwargs": {"squash_output": True, "log_std_init": 0.5}},
        ),
        (ACTION_SPACES["box"], {"policy_kwargs": {"squash_output": True, "log_std_init": 0.5}}),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_both_rollouts_are_the_same_whatever_a_callback_does(
    space: spaces.Space[Any], kwargs: dict[str, Any]
) -> None:
    buffers = []
    for generic in (False, True):
        env = DummyVecEnv([lambda: Rounding(space)] * 2)
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, **kwargs)
        with patched(generic):
            model.learn(128, callback=Meddler())
            torch.manual_seed(1)  # noise for the steps that were not made is drawn all the same
            model.learn(128, reset_num_timesteps=False)
        buffers.append(model.rollout_buffer)
    for name in ("observations", "actions", "log_probs", "values", "advantages"):
        ours, sb3s = (getattr(buffer, name) for buffer in buffers)
        np.testing.assert_allclose(ours, sb3s, rtol=1e-4, atol=1e-4, err_msg=name)  # float32


class Gambler(BaseCallback):
    """Draws from torch's generator between the steps."""

    def _on_step(self) -> bool:
        torch.rand(3)
        return True


@pytest.mark.parametrize("name", ["box", "discrete", "multi discrete"])
def test_a_rollouts_noise_is_not_what_others_draw(name: str) -> None:
    actions = []
    for callback in (None, Gambler()):
        env = RandomEnv(ACTION_SPACES[name])
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
        rollouts: list[Any] = []
        model.train = lambda to=rollouts, of=model: to.append(of.rollout_buffer.actions.copy())
        model.learn(128, callback=callback)
        actions.append(rollouts)
    (first, second), (first_beside, second_beside) = actions
    np.testing.assert_array_equal(first, first_beside)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, second_beside)  # what was drawn in between is gone


class Forgetful(RandomEnv):
    """Has one info and one array for its whole life, in which the last episode's end stays."""

    def __init__(self, centre: float) -> None:
        observations = spaces.Box(centre - 1, centre + 1, (3,), np.float64)
        super().__init__(spaces.Discrete(3), observations)
        self.info: dict[str, Any] = {}
        self.observation = np.zeros(3)

    def reset(self, **kwargs: Any) -> Any:
        self.observation[...], _ = super().reset(**kwargs)
        return self.observation, {}

    def step(self, action: Any) -> Any:
        self.observation[...], *others, _ = super().step(action)
        return self.observation, *others, self.info


class Witness(BaseCallback):
    """Keeps what a rollout shows at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def _on_step(self) -> bool:
        # Copies: SB3 adds the bootstrap to the rewards afterwards.
        shown = [self.locals[name].copy() for name in ("new_obs", "rewards", "dones")]
        finals = [info.get("terminal_observation") for info in self.locals["infos"]]
        finals = [np.zeros(3) if final is None else final.copy() for final in finals]
        env = self.model.get_vec_normalize_env()
        raw = [env.get_original_obs(), env.get_original_reward().copy(), env.returns.copy()]
        self.seen.append([*shown, *finals, *raw])
        return True


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize(
    "normalizer",
    [{}, {"norm_obs": False}, {"norm_reward": False}, {"training": False}, {"clip_reward": 0.3}],
    ids=str,
)
@pytest.mark.parametrize("centre", [0.0, 1e9])
def test_both_rollouts_show_callbacks_the_same_normalised_steps(
    centre: float, normalizer: dict[str, Any]
) -> None:
    seen, models = [], []
    for generic in (False, True):
        # Unlike DummyVecEnv it hands on the array that the environment will use again.
        env = SyncVecEnv([lambda: Monitor(Forgetful(centre))] * 2)
        env = VecNormalize(env, **{"clip_obs": 1.5, **normalizer})
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
        witness = Witness()
        with patched(generic):
            models.append(model.learn(128, callback=witness))
        seen.append(witness.seen)
    assert sum(step[2].sum() for step in seen[0]) > 5
    for unrolled, expected in zip(*seen, strict=True):
        for ours, sb3s in zip(unrolled, expected, strict=True):
            np.testing.assert_allclose(ours, sb3s, rtol=1e-5, atol=1e-6)  # float32
    episodes = [[episode["r"] for episode in model.ep_info_buffer] for model in models]
    assert episodes[0] == episodes[1] != []


def test_a_time_limits_bootstrap_is_from_what_was_there_then() -> None:
    returns = []
    for generic in (False, True):
        env = SyncVecEnv([lambda: Forgetful(0.0)] * 2)
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
        with patched(generic):
            returns.append(model.learn(128).rollout_buffer.returns)
    np.testing.assert_allclose(returns[0], returns[1], rtol=1e-4, atol=1e-5)  # float32


class Other(ActorCriticPolicy):
    """May do anything."""


class OtherExtractor(FlattenExtractor):
    """May do anything."""


class OtherMlpExtractor(MlpExtractor):
    """May do anything."""


def sharing(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    policy.mlp_extractor.value_net = policy.mlp_extractor.policy_net
    return policy


def learning_features(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    policy.action_dist.learn_features = True
    return policy


def pruned(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    prune.l1_unstructured(policy.action_net, "weight", amount=0.5)
    return policy


def with_mlp_extractor(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    policy.mlp_extractor.__class__ = OtherMlpExtractor
    return policy


def hooked(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    policy.mlp_extractor.register_forward_hook(lambda *_: None)
    return policy


def gradient_hooked(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    policy.value_net.weight.register_hook(lambda gradient: gradient)
    return policy


def with_a_method_of_its_own(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    policy.mlp_extractor.forward_actor = policy.mlp_extractor.policy_net.__call__
    return policy


def with_critics_extractor(policy: ActorCriticPolicy) -> ActorCriticPolicy:
    policy.vf_features_extractor = OtherExtractor(policy.observation_space)
    return policy


@pytest.mark.parametrize(
    "policy",
    [
        learning_features(policy_of(spaces.Box(-1, 1, (2,)), use_sde=True)),
        policy_of(spaces.Discrete(2), activation_fn=nn.SiLU),
        policy_of(spaces.Discrete(2), activation_fn=partial(nn.LeakyReLU, -0.1)),
        policy_of(spaces.Discrete(2), activation_fn=partial(nn.ELU, -0.1)),
        policy_of(spaces.Discrete(2), features_extractor_class=OtherExtractor),
        Other(spaces.Box(-1, 1, (3,)), spaces.Discrete(2), lambda _: 1e-3),
        sharing(policy_of(spaces.Discrete(2))),
        pruned(policy_of(spaces.Discrete(2))),
        with_mlp_extractor(policy_of(spaces.Discrete(2))),
        with_critics_extractor(policy_of(spaces.Discrete(2), share_features_extractor=False)),
        hooked(policy_of(spaces.Discrete(2))),
        gradient_hooked(policy_of(spaces.Discrete(2))),
        with_a_method_of_its_own(policy_of(spaces.Discrete(2))),
    ],
    ids=[
        "gSDE that teaches the features",
        "an unknown activation",
        "a leak upwards",
        "an exponential upwards",
        "an extractor of the user",
        "a policy of the user",
        "layers of both networks",
        "a pruned layer",
        "an mlp extractor of the user",
        "a critic's extractor of the user",
        "a hook",
        "a gradient's hook",
        "a method of the user",
    ],
)
def test_anything_else_takes_the_generic_path(policy: ActorCriticPolicy) -> None:
    assert standard_mlp(policy) is None


def test_a_layer_with_a_parameter_that_nobody_knows_takes_the_generic_path() -> None:
    policy = policy_of(spaces.Discrete(2))
    policy.register_parameter("temperature", nn.Parameter(torch.ones(1)))
    assert standard_mlp(policy) is None


def test_the_critics_regression_runs_beside_the_policy_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, update_actor = TRPO._started_regression, TRPO._update_actor
    regressions: list[Any] = []

    def remember(model: TRPO, *arguments: Any) -> Any:
        regressions.append(started(model, *arguments))
        return regressions[-1]

    def after_the_regression(model: TRPO, *arguments: Any) -> Any:
        regressions[-1]._outputs.result(timeout=60)
        return update_actor(model, *arguments)

    monkeypatch.setattr(TRPO, "_started_regression", remember)
    monkeypatch.setattr(TRPO, "_update_actor", after_the_regression)
    trained(spaces.Discrete(3), generic=False)
    assert len(regressions) == 2


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_regression_changes_nothing_before_it_is_committed_and_is_silent(
    activation: type[nn.Module], max_grad_norm: float | None, capfd: pytest.CaptureFixture[str]
) -> None:
    kwargs = {"activation_fn": activation}
    model = trained(spaces.Discrete(3), generic=False, policy_kwargs=kwargs)
    mlp = standard_mlp(model.policy)
    assert mlp is not None
    before = copy.deepcopy([model.policy.state_dict(), model.policy.optimizer.state_dict()])
    regression = MlpRegression(model.policy, mlp.critic, model.rollout_buffer, 3, 64, max_grad_norm)
    regression._outputs.result(timeout=60)
    after = [model.policy.state_dict(), model.policy.optimizer.state_dict()]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert regression.commit().refusal is None
    for parameter, old in zip(mlp.critic.parameters, critic_of(before[0]), strict=True):
        assert not torch.equal(parameter, old)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("observations", "returns"), [(1.0, 5e18), (1e4, 1e17)], ids=["the loss", "a moment"]
)
def test_a_regression_beyond_float32_is_refused_on_both_paths(
    observations: float, returns: float
) -> None:
    model = trained(spaces.Discrete(3), False, policy_kwargs={"activation_fn": nn.ReLU})
    mlp, buffer = standard_mlp(model.policy), model.rollout_buffer
    assert mlp is not None
    buffer.observations *= observations
    buffer.returns[:] = returns
    before = copy.deepcopy([model.policy.state_dict(), model.policy.optimizer.state_dict()])
    assert MlpRegression(model.policy, mlp.critic, buffer, 1, 64).commit().refusal == NOT_FINITE
    after = [model.policy.state_dict(), model.policy.optimizer.state_dict()]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert fit_critic(model.policy, buffer, mlp.actor_parameters, 1, 64).refusal == NOT_FINITE


@pytest.mark.parametrize("other", [{"dtype": torch.float64}, {"device": "meta"}], ids=str)
def test_a_regression_takes_float32_on_the_cpu(other: dict[str, Any]) -> None:
    parameters = [nn.Parameter(torch.zeros(3))]
    assert can_regress(torch.optim.Adam(parameters), parameters)
    others = [nn.Parameter(torch.zeros(3, **other))]
    assert not can_regress(torch.optim.Adam(others), others)


def critic_of(state: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [value for name, value in state.items() if "value" in name]


def test_an_optimiser_with_a_hook_calls_it() -> None:
    calls = []
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))] * 2)
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, n_critic_updates=3, seed=0)
    model.policy.optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    model.learn(128)
    assert len(calls) == 3 * 2


def test_parameters_keep_their_own_memory() -> None:
    """Views of one vector would each be saved with all of it."""
    model = trained(spaces.Discrete(3), generic=False)
    for parameter in model.policy.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * 4


def test_a_layer_that_was_replaced_is_the_one_that_learns() -> None:
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))] * 2)
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
    model.policy.action_net = nn.Linear(64, 3)
    before = model.policy.action_net.weight.detach().clone()
    model.learn(256)
    assert not torch.equal(model.policy.action_net.weight, before)


def test_a_critics_layers_may_have_learnt_for_different_times() -> None:
    models = []
    for generic in (False, True):
        env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))] * 2)
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
        with patched(generic):
            model.policy.mlp_extractor.value_net.requires_grad_(False)
            model.learn(128)
            model.policy.mlp_extractor.value_net.requires_grad_(True)
            models.append(model.learn(128, reset_num_timesteps=False))
    ours, generic_one = (model.policy.state_dict() for model in models)
    torch.testing.assert_close(ours, generic_one, rtol=1e-4, atol=2e-5)  # as above


def test_a_critics_layer_that_the_optimiser_does_not_have_is_left_alone(tmp_path: Path) -> None:
    """As SB3 does it, which saves and loads such a model."""
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(3))] * 2)
    model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
    model.policy.value_net = nn.Linear(64, 1)
    before = model.policy.value_net.weight.detach().clone()
    model.learn(256).save(tmp_path / "policy")
    assert torch.equal(model.policy.value_net.weight, before)


@pytest.mark.parametrize(
    ("policy", "observations", "says"),
    [
        ("MlpPolicy", spaces.Box(-1, 1, (3,)), "Update: standard MLP; rollout: {}"),
        ("MlpPolicy", spaces.Discrete(3), "Update: standard MLP; rollout: Stable-Baselines3"),
        (Other, spaces.Box(-1, 1, (3,)), "Update: generic; rollout: Stable-Baselines3"),
    ],
)
def test_the_paths_are_said(
    policy: Any,
    observations: Any,
    says: str,
    arithmetic: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    TRPO(policy, RandomEnv(spaces.Discrete(2), observations), device="cpu", verbose=1)
    assert says.format(arithmetic) in capsys.readouterr().out


class Reused(RolloutBuffer):
    """A user's buffer, which may keep anything else."""


@pytest.mark.parametrize("buffer", [None, Reused])
@pytest.mark.parametrize("observations", ["vector", "image"])
def test_a_rollout_in_numpy_is_for_what_it_knows(observations: str, buffer: Any) -> None:
    image = spaces.Box(0, 255, (8, 8, 1), np.uint8)
    space = image if observations == "image" else None
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(2), space)])
    model = TRPO("MlpPolicy", env, n_steps=128, rollout_buffer_class=buffer, device="cpu")
    assert can_collect(model) == (observations == "vector" and buffer is None)
