"""What a user replaces or changes is used on the fast path too, or refused."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BaseModel
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.train.environments import RandomEnv
from tests.train.mlp.policies import forced_path
from trpo_deploy import TRPO
from trpo_deploy.errors import ObservationError, TrainingError

BOX = spaces.Box(-1, 1, (2,))


def small(
    space: spaces.Space[Any] = BOX,
    *,
    policy: str | type[ActorCriticPolicy] = "MlpPolicy",
    normalized: bool = False,
    **kwargs: Any,
) -> TRPO:
    env: Any = DummyVecEnv([lambda: RandomEnv(space)] * 2)
    env = VecNormalize(env) if normalized else env
    return TRPO(policy, env, n_steps=32, batch_size=64, n_critic_updates=2, seed=0, **kwargs)


def normalizer(model: TRPO) -> VecNormalize:
    found = model.get_vec_normalize_env()
    assert found is not None
    return found


OBJECTS: dict[str, tuple[Callable[[TRPO], Any], tuple[str, ...]]] = {
    "policy": (
        lambda model: model.policy,
        ("forward", "predict_values", "get_distribution", "extract_features"),
    ),
    "distribution": (lambda model: model.policy.action_dist, ("proba_distribution", "log_prob")),
    "extractor": (lambda model: model.policy.mlp_extractor, ("forward_actor", "forward_critic")),
    "buffer": (
        lambda model: model.rollout_buffer,
        ("add", "get", "compute_returns_and_advantage"),
    ),
    "normalizer": (normalizer, ("normalize_obs", "normalize_reward", "step_wait")),
    "statistics": (lambda model: normalizer(model).obs_rms, ("update",)),
    "environments": (
        lambda model: normalizer(model).venv,
        ("step_async", "step_wait", "_save_obs"),
    ),
    "returns": (lambda model: normalizer(model).ret_rms, ("update",)),
    "optimizer": (lambda model: model.policy.optimizer, ("step", "zero_grad")),
}
METHODS = [(name, method) for name, (_, methods) in OBJECTS.items() for method in methods]


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_a_method_that_is_replaced_on_an_object_is_called(name: str, method: str) -> None:
    counts = []
    for generic in (False, True):
        model = small(normalized=True)
        owner, calls = OBJECTS[name][0](model), [0]
        setattr(owner, method, counting(getattr(owner, method), calls))
        with forced_path(generic=generic):
            model.learn(64)
        counts += calls
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    ("cls", "method"),
    [
        (ActorCriticPolicy, "predict_values"),
        (BaseModel, "extract_features"),
        (MlpExtractor, "forward"),
        (RolloutBuffer, "add"),
        (DummyVecEnv, "step_wait"),
        (VecNormalize, "normalize_obs"),
        (RunningMeanStd, "update"),
        (nn.Linear, "forward"),
        (nn.Tanh, "forward"),
        (torch.optim.Adam, "step"),
    ],
)
@pytest.mark.parametrize("as_mock", [False, True])
def test_a_method_that_is_replaced_in_its_class_is_called(
    cls: Any, method: str, as_mock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both replacements have the name and the module of what they replace."""
    counts = []
    for generic in (False, True):
        model, calls = small(normalized=True), [0]
        counted = counting(getattr(cls, method), calls)
        replaced: Any = counted
        if as_mock:
            replaced = mock.create_autospec(getattr(cls, method), side_effect=counted)
        with monkeypatch.context() as patch, forced_path(generic=generic):
            patch.setattr(cls, method, replaced)
            model.learn(64)
        counts += calls
    assert counts[0] == counts[1] > 0


def counting(function: Any, calls: list[int]) -> Any:
    """The function, which counts its calls."""

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return function(*args, **kwargs)

    return counted


class OwnExtractor(FlattenExtractor):
    """Does what SB3's does, by a class that is not known."""

    def forward(self, observations: Any) -> Any:
        return super().forward(observations)


class Own(ActorCriticPolicy):
    """A subclass that replaces nothing yet."""


def test_a_method_that_a_subclass_gets_later_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = small(policy=Own), [0]
    model.learn(64)
    monkeypatch.setattr(Own, "forward", counting(Own.forward, calls))
    model.learn(64)
    assert calls[0] == model.n_steps


class Halved(MlpExtractor):
    """Replaces what SB3's rollout calls, and no other method."""

    def forward(self, features: Any) -> Any:
        actor, critic = super().forward(features)
        return actor / 2, critic / 2


def test_a_replaced_forward_of_the_networks_is_called() -> None:
    actions = []
    for unrolled in (True, False):
        model = small(unrolled=unrolled)
        networks: Any = model.policy.mlp_extractor
        networks.__class__ = Halved
        model.learn(64)
        actions.append(model.rollout_buffer.actions)
    ours, sb3s = actions
    np.testing.assert_array_equal(ours, sb3s)


def value_weight(model: TRPO) -> Any:
    return model.policy.value_net.weight


HOOKS: dict[str, Callable[[TRPO, Any], Any]] = {
    "module": lambda model, hook: model.policy.value_net.register_forward_hook(hook),
    "parameter": lambda model, hook: value_weight(model).register_hook(hook),
    "accumulated gradient": lambda model, hook: value_weight(
        model
    ).register_post_accumulate_grad_hook(hook),
    "optimizer": lambda model, hook: model.policy.optimizer.register_step_post_hook(hook),
    "every module": lambda _, hook: register_module_forward_hook(hook),
    "every optimizer": lambda _, hook: register_optimizer_step_post_hook(hook),
}


@pytest.mark.parametrize("register", HOOKS.values(), ids=HOOKS)
def test_hooks_are_called(register: Callable[[TRPO, Any], Any]) -> None:
    counts = []
    for generic in (False, True):
        calls: list[int] = []
        model = small()
        hook = register(model, lambda *_, calls=calls: calls.append(1))
        with forced_path(generic=generic):
            model.learn(64)
        hook.remove()
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0


class OtherStatistics(RunningMeanStd):
    """Keeps the first mean."""

    def update(self, arr: Any) -> None:
        self.count += len(arr)


def test_a_subclass_of_the_statistics_is_used() -> None:
    model = small(normalized=True)
    statistics: Any = OtherStatistics(shape=(3,))
    normalizer(model).obs_rms = statistics
    model.learn(64)
    assert not np.any(statistics.mean)


class Changing(BaseCallback):
    """Changes the model in one step, in every step, or at the start of each rollout."""

    model: TRPO

    def __init__(self, change: Callable[[TRPO], object], at: int | str) -> None:
        super().__init__()
        self.change, self.at = change, at

    def _on_rollout_start(self) -> None:
        if self.at == "start":
            self.change(self.model)

    def _on_step(self) -> bool:
        if self.at in (self.n_calls, "every step"):
            self.change(self.model)
        return True


def discounting(model: TRPO) -> None:
    """Changes the discounts of the buffer."""
    model.rollout_buffer.gamma = 0.5
    model.rollout_buffer.gae_lambda = 0.3


def test_discounts_are_those_of_the_buffer() -> None:
    advantages = []
    for generic in (False, True):
        model = small(gamma=0.99)
        with forced_path(generic=generic):
            model.learn(64, callback=Changing(discounting, at="start"))
        advantages.append(model.rollout_buffer.advantages)
    ours, sb3s = advantages
    np.testing.assert_allclose(ours, sb3s, rtol=1e-4, atol=1e-5)  # float32


def test_a_time_limit_is_bootstrapped_with_the_discount_of_its_step() -> None:
    def discount_less(model: TRPO) -> None:
        model.gamma *= 0.99

    rewards = []
    for unrolled in (True, False):
        model = small(unrolled=unrolled)
        model.learn(64, callback=Changing(discount_less, at="every step"))
        rewards.append(model.rollout_buffer.rewards)
    ours, sb3s = rewards
    np.testing.assert_allclose(ours, sb3s, rtol=1e-5)  # float32


class Reader(BaseCallback):
    """Reads what SB3's rollout has at each step."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        self.seen: list[Any] = []

    def _on_step(self) -> bool:
        self.seen.append(
            [self.locals["rollout_buffer"].pos]
            + [np.asarray(self.locals[name]).copy() for name in self.names]
        )
        return True


def test_the_buffers_position_counts_the_steps_of_the_rollout() -> None:
    reader = Reader()
    small().learn(128, callback=reader)
    assert [each[0] for each in reader.seen] == [*range(32), *range(32)]


def test_a_rollout_that_is_not_unrolled_has_sb3s_locals_at_each_step() -> None:
    reader = Reader("values", "log_probs", "obs_tensor")
    model = small(unrolled=False)
    assert model.paths == ("standard MLP", "Stable-Baselines3")
    model.learn(64, callback=reader)
    for column, stored in enumerate(
        (model.rollout_buffer.values, model.rollout_buffer.log_probs), start=1
    ):
        seen = np.stack([each[column].ravel() for each in reader.seen])
        # The update has put the steps of each environment in a row.
        np.testing.assert_array_equal(seen, stored.reshape(2, 32).T)


def in_place(parameter: Any) -> None:
    with torch.no_grad():
        parameter.sub_(0.5)


def data_in_place(parameter: Any) -> None:
    parameter.data.fill_(-1.0)


def other_data(parameter: Any) -> None:
    parameter.data = parameter.data - 0.5


@pytest.mark.parametrize("change", [in_place, data_in_place, other_data])
@pytest.mark.parametrize("weight", ["log_std", "action_net.bias", "value_net.weight"])
def test_weights_that_change_during_a_rollout_are_refused_or_followed(
    change: Any, weight: str
) -> None:
    anneal = Changing(lambda model: change(model.policy.get_parameter(weight)), at=7)
    with pytest.raises(TrainingError, match=rf"^{weight} changed during a rollout.*unrolled=False"):
        small().learn(64, callback=anneal)
    anneal.n_calls = 0
    small(unrolled=False).learn(64, callback=anneal)


def replacing(path: str, make: Callable[[Any], Any]) -> Callable[[TRPO], None]:
    """A change that replaces an attribute of the model by what ``make`` returns for it."""
    *owners, name = path.split(".")

    def change(model: TRPO) -> None:
        owner: Any = functools.reduce(getattr, owners, model)
        setattr(owner, name, make(getattr(owner, name)))

    return change


def halved(extractor: Any) -> Any:
    """A copy of the networks, of another class."""
    copied = copy.deepcopy(extractor)
    copied.__class__ = Halved
    return copied


def doubled(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: 2 * method(*args)


def hooked(model: TRPO) -> None:
    model.policy.action_net.register_forward_hook(lambda _, __, output: 2 * output)


def own_step(model: TRPO) -> None:
    """Environments with a method of their own."""
    env: Any = model.env
    vars(env)["step_wait"] = functools.partial(type(env).step_wait, env)


METHOD = "a method or a hook of the policy or of the rollout buffer"
CHANGES: dict[str, tuple[Callable[[TRPO], object], str]] = {
    "activation": (
        replacing("policy.mlp_extractor.policy_net.1", lambda _: nn.ReLU()),
        r"mlp_extractor\.policy_net\.1",
    ),
    "critic's activation": (
        replacing("policy.mlp_extractor.value_net.1", lambda _: nn.ReLU()),
        r"mlp_extractor\.value_net\.1",
    ),
    "activation's attribute": (
        replacing("policy.mlp_extractor.policy_net.1.alpha", doubled(float)),
        r"mlp_extractor\.policy_net\.1\.alpha",
    ),
    "layer": (
        replacing("policy.action_net", lambda _: nn.Linear(64, 2)),
        r"action_net\.weight, action_net\.bias",
    ),
    "layer left out": (
        lambda model: model.policy.mlp_extractor.policy_net.pop(3),
        r"mlp_extractor\.policy_net\.3",
    ),
    "networks": (replacing("policy.mlp_extractor", halved), "mlp_extractor"),
    "distribution": (replacing("policy.action_dist", copy.copy), "action_dist"),
    "training mode": (lambda model: model.policy.set_training_mode(True), "training, "),
    "policy": (
        replacing("policy", lambda _: small(policy_kwargs={"log_std_init": -1.0}).policy),
        "log_std, ",
    ),
    "hook": (hooked, METHOD),
    "method of a layer": (replacing("policy.value_net.forward", doubled), METHOD),
    "method of the policy": (replacing("policy.predict_values", doubled), METHOD),
    "method of the environments": (own_step, "a method of the environments"),
    "method of the buffer": (replacing("rollout_buffer.add", functools.partial), METHOD),
}


def with_elu(path: str, **kwargs: Any) -> TRPO:
    """A model whose rollout takes this path."""
    arguments: dict[str, Any] = {"activation_fn": nn.ELU}
    if path == "unrolled modules":
        arguments["features_extractor_class"] = OwnExtractor
    model = small(policy_kwargs=arguments, **kwargs)
    assert path == model.paths[1] or "unrolled" in kwargs
    return model


@pytest.mark.parametrize("path", ["NumPy", "unrolled modules"])
@pytest.mark.parametrize(("change", "name"), CHANGES.values(), ids=CHANGES)
def test_a_policy_that_changes_during_a_rollout_is_refused_or_followed(
    change: Callable[[TRPO], object], name: str, path: str
) -> None:
    says = rf"^{name}.* changed during a rollout.*_on_rollout_start.*unrolled=False"
    with pytest.raises(TrainingError, match=says):
        with_elu(path).learn(64, callback=Changing(change, at=7))
    with_elu(path, unrolled=False).learn(64, callback=Changing(change, at=7))


@pytest.mark.parametrize("path", ["NumPy", "unrolled modules"])
@pytest.mark.parametrize("change", [change for change, _ in CHANGES.values()], ids=CHANGES)
def test_a_policy_that_changes_at_the_start_of_a_rollout_is_followed(
    change: Callable[[TRPO], object], path: str
) -> None:
    buffers = []
    for kwargs in ({}, {"unrolled": False}):
        model = with_elu(path, **kwargs)
        _, callback = model._setup_learn(64, Changing(change, at="start"))
        assert model.env is not None
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        buffers.append(model.rollout_buffer)
    for array in ("actions", "log_probs", "values"):
        ours, sb3s = (getattr(buffer, array) for buffer in buffers)
        np.testing.assert_allclose(ours, sb3s, rtol=1e-4, atol=1e-5, err_msg=array)  # float32


class Counting(nn.Flatten):
    """Changes its own attributes in each pass."""

    n_passes = 0

    def forward(self, observations: Any) -> Any:
        self.n_passes += 1
        return super().forward(observations)


def test_own_attributes_of_modules_may_change() -> None:
    def count(model: TRPO) -> None:
        vars(model.policy)["n_changes"] = vars(model.policy).get("n_changes", 0) + 1

    model = with_elu("unrolled modules")
    model.policy.get_submodule("features_extractor").flatten = Counting()
    for _ in range(2):
        model.learn(64, callback=Changing(count, at=7))
    assert vars(model.policy)["n_changes"] == 2


class Broken(RandomEnv):
    """Its tenth observation has one bad number; it counts the actions that it gets."""

    def __init__(self, space: spaces.Space[Any], bad: float) -> None:
        super().__init__(space)
        self.bad, self.total, self.actions = bad, 0, []  # type: ignore[var-annotated]

    def step(self, action: Any) -> Any:
        self.actions.append(action)
        self.total += 1
        observation, *others = super().step(action)
        if self.total == 10:
            observation = np.array([0.0, 0.0, self.bad], np.float32)
        return observation, *others


SPACES = {
    "box": BOX,
    "discrete": spaces.Discrete(3),
    "multi discrete": spaces.MultiDiscrete([2, 3]),
    "multi binary": spaces.MultiBinary(2),
}


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize(
    ("space", "kwargs"),
    [
        *((space, {}) for space in SPACES),
        ("box", {"use_sde": True}),
        ("box", {"policy_kwargs": {"squash_output": True}}),
    ],
)
def test_no_action_follows_from_an_observation_that_is_nan(
    space: str, kwargs: dict[str, Any]
) -> None:
    envs = [RandomEnv(SPACES[space]), Broken(SPACES[space], np.nan)]
    makers: Any = [lambda: envs[0], lambda: envs[1]]
    model = TRPO("MlpPolicy", DummyVecEnv(makers), n_steps=32, batch_size=64, seed=0, **kwargs)
    with pytest.raises(
        ObservationError, match=r"'obs': .*nan at index 2 from environment 1 of 2, after 20 steps"
    ) as caught:
        model.learn(64)
    assert isinstance(caught.value, ValueError)  # as torch's distributions raise in SB3's rollout
    assert len(envs[1].actions) == 10  # type: ignore[attr-defined]


def test_the_environment_is_named_behind_a_normalizer_too() -> None:
    """Its statistics are NaN then, and so is each normalized observation."""
    makers: Any = [lambda: RandomEnv(BOX), lambda: Broken(BOX, np.nan)]
    model = TRPO("MlpPolicy", VecNormalize(DummyVecEnv(makers)), n_steps=32, batch_size=64, seed=0)
    with pytest.raises(ObservationError, match="nan at index 2 from environment 1 of 2"):
        model.learn(64)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("weight", ["action_net.bias", "log_std"])
def test_no_action_follows_from_weights_that_are_nan(weight: str) -> None:
    env = Broken(BOX, 0.0)
    model = TRPO("MlpPolicy", DummyVecEnv([lambda: env]), n_steps=64, batch_size=64, seed=0)
    model.policy.get_parameter(weight).data[1] = np.nan
    with pytest.raises(TrainingError, match="output is nan at index 1 for environment 0 of 1"):
        model.learn(64)
    assert env.actions == []


@pytest.mark.usefixtures("arithmetic")
def test_an_action_with_a_logit_of_minus_infinity_is_excluded() -> None:
    model = small(spaces.Discrete(3))
    model.policy.get_parameter("action_net.bias").data[1] = -np.inf
    _, callback = model._setup_learn(64, None)
    assert model.env is not None
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    assert not (model.rollout_buffer.actions == 1).any()


def test_a_part_of_the_buffer_can_be_filled() -> None:
    """``collect_rollouts`` takes the number of steps apart from the buffer."""
    rollouts = []
    for unrolled in (True, False):
        model = small(unrolled=unrolled)
        _, callback = model._setup_learn(64, None)
        assert model.env is not None
        assert model.collect_rollouts(model.env, callback, model.rollout_buffer, 8)
        assert (model.rollout_buffer.pos, model.rollout_buffer.full) == (8, False)
        rollouts.append(model.rollout_buffer.log_probs[:8])
    ours, sb3s = rollouts
    np.testing.assert_array_equal(ours, sb3s)


def test_the_buffer_that_is_passed_is_filled_by_its_methods() -> None:
    model, calls = small(), [0]
    other = copy.copy(model.rollout_buffer)
    vars(other)["add"] = counting(other.add, calls)
    _, callback = model._setup_learn(64, None)
    assert model.env is not None
    model.collect_rollouts(model.env, callback, other, model.n_steps)
    assert calls[0] == model.n_steps
