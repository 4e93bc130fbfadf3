"""The fast rollout equals SB3's, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper, VecNormalize

from tests.train.environments import RandomEnv
from tests.train.mlp.policies import ACTION_SPACES, forced_path
from trpo_deploy import TRPO
from trpo_deploy.train.mlp.rollout import can_collect
from trpo_deploy.train.vec_env.sync import SyncVecEnv


class Meddler(BaseCallback):
    """Changes gSDE's noise between steps, and ends a rollout early."""

    model: OnPolicyAlgorithm

    def _on_step(self) -> bool:
        if self.model.use_sde and self.n_calls % 5 == 0:
            # For another number of environments gSDE uses one noise matrix for all.
            self.model.policy.reset_noise(self.n_calls // 5 % 3 + 1)
        return self.num_timesteps < 100  # in the middle of the first rollout


class Rounding(RandomEnv):
    """Rounds actions: SB3's actions of an integer Box are real numbers."""

    def step(self, action: Any) -> Any:
        return super().step(np.asarray(action).astype(self.action_space.dtype))


INTEGERS = spaces.Box(-2, 2, (2,), np.int32)


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.filterwarnings("ignore:Action space is not")
@pytest.mark.parametrize(
    ("space", "kwargs"),
    [
        *((space, {}) for space in (*ACTION_SPACES.values(), INTEGERS)),
        (spaces.Box(-1, 1, (2, 2)), {"use_sde": True}),
        (INTEGERS, {"use_sde": True}),
        # Actions at their bounds, where the logarithm amplifies the last digit.
        (
            ACTION_SPACES["box"],
            {"use_sde": True, "policy_kwargs": {"squash_output": True, "log_std_init": 0.5}},
        ),
        (ACTION_SPACES["box"], {"policy_kwargs": {"squash_output": True, "log_std_init": 0.5}}),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_both_rollouts_are_equal_whatever_a_callback_does(
    space: spaces.Space[Any], kwargs: dict[str, Any]
) -> None:
    buffers = []
    for generic in (False, True):
        env = DummyVecEnv([lambda: Rounding(space)] * 2)
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, **kwargs)
        with forced_path(generic=generic):
            model.learn(128, callback=Meddler())
            torch.manual_seed(1)  # the fast rollout draws noise for steps that it does not make
            model.learn(128, reset_num_timesteps=False)
        buffers.append(model.rollout_buffer)
    for name in ("observations", "actions", "log_probs", "values", "advantages"):
        ours, sb3s = (getattr(buffer, name) for buffer in buffers)
        np.testing.assert_allclose(ours, sb3s, rtol=1e-4, atol=1e-4, err_msg=name)  # float32


class Gambler(BaseCallback):
    """Draws from torch's generator between steps."""

    def _on_step(self) -> bool:
        torch.rand(3)
        return True


class Recorder(BaseCallback):
    """Keeps the actions of each rollout."""

    model: OnPolicyAlgorithm

    def __init__(self) -> None:
        super().__init__()
        self.rollouts: list[Any] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.rollouts.append(self.model.rollout_buffer.actions.copy())


@pytest.mark.parametrize("name", ["box", "discrete", "multi discrete"])
def test_a_rollouts_noise_is_independent_of_other_draws(name: str) -> None:
    """The noise of a rollout is drawn at its start."""
    actions = []
    for callback in (None, Gambler()):
        env = RandomEnv(ACTION_SPACES[name])
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
        recorder = Recorder()
        model.learn(128, callback=[recorder] if callback is None else [recorder, callback])
        actions.append(recorder.rollouts)
    (first, second), (first_again, second_again) = actions
    np.testing.assert_array_equal(first, first_again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, second_again)  # the other draws moved the generator


class Reusing(RandomEnv):
    """Returns the same info and the same array from every step."""

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


class Observer(BaseCallback):
    """Keeps what a callback sees at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def _on_step(self) -> bool:
        # Copies: SB3 adds the bootstrap to the rewards afterwards.
        shown = [self.locals[name].copy() for name in ("new_obs", "rewards", "dones")]
        finals = [info.get("terminal_observation") for info in self.locals["infos"]]
        finals = [np.zeros(3) if final is None else final.copy() for final in finals]
        env = self.model.get_vec_normalize_env()
        assert env is not None
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
@pytest.mark.parametrize("kind", [SyncVecEnv, DummyVecEnv])
def test_callbacks_see_the_same_normalized_steps_in_both_rollouts(
    kind: type[DummyVecEnv], centre: float, normalizer: dict[str, Any]
) -> None:
    seen, models = [], []
    for generic in (False, True):
        # Unlike DummyVecEnv, SyncVecEnv passes on the array that the environment reuses.
        venv = kind([lambda: Monitor(Reusing(centre))] * 2)
        env = VecNormalize(venv, **{"clip_obs": 1.5, **normalizer})
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
        observer = Observer()
        with forced_path(generic=generic):
            models.append(model.learn(128, callback=observer))
        seen.append(observer.seen)
    assert sum(step[2].sum() for step in seen[0]) > 5
    for fast, expected in zip(*seen, strict=True):
        for ours, sb3s in zip(fast, expected, strict=True):
            np.testing.assert_allclose(ours, sb3s, rtol=1e-5, atol=1e-6)  # float32
    episodes = [[episode["r"] for episode in model.ep_info_buffer or ()] for model in models]
    assert episodes[0] == episodes[1] != []


def test_the_bootstrap_at_a_time_limit_uses_a_copy_of_the_last_observation() -> None:
    returns = []
    for generic in (False, True):
        env = SyncVecEnv([lambda: Reusing(0.0)] * 2)
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
        with forced_path(generic=generic):
            returns.append(model.learn(128).rollout_buffer.returns)
    np.testing.assert_allclose(returns[0], returns[1], rtol=1e-4, atol=1e-5)  # float32


class WithoutLast(VecEnvWrapper):
    """Has no last observation of an episode: its key is missing, or None."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        for i, info in enumerate(infos):
            if dones[i]:
                info["terminal_observation"] = None
                if i:
                    del info["terminal_observation"]
        return observations, rewards, dones, infos


def test_there_is_no_bootstrap_without_a_last_observation() -> None:
    returns = []
    for generic in (False, True):
        env = WithoutLast(DummyVecEnv([lambda: RandomEnv(spaces.Discrete(2))] * 2))
        model = TRPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
        with forced_path(generic=generic):
            returns.append(model.learn(128).rollout_buffer.returns)
    np.testing.assert_allclose(returns[0], returns[1], rtol=1e-4, atol=1e-5)  # float32


class Telling(RandomEnv):
    """Reuses its info, and the list in it."""

    def __init__(self) -> None:
        super().__init__(ACTION_SPACES["box"])
        self.info: dict[str, Any] = {"total": np.float64(0.0), "history": []}

    def step(self, action: Any) -> Any:
        self.info["total"] += 1
        if "history" in self.info:
            self.info["history"].append(self.info["total"])
        *others, _ = super().step(action)
        return *others, self.info


class InfoKeeper(BaseCallback):
    """Keeps the infos of each step, without copies."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def _on_step(self) -> bool:
        self.seen.append(self.locals["infos"])
        return True


@pytest.mark.parametrize("nested", [False, True])
def test_infos_of_sb3s_environments_do_not_change_after_a_step(nested: bool) -> None:
    seen = []
    for generic in (False, True):
        env = Telling()
        if not nested:
            del env.info["history"]
        model = TRPO("MlpPolicy", env, n_steps=32, batch_size=32, seed=0)
        keeper = InfoKeeper()
        with forced_path(generic=generic):
            model.learn(32, callback=keeper)
        seen.append([[info["total"], info.get("history")] for (info,) in keeper.seen])
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[0][1]


class CustomBuffer(RolloutBuffer):
    """A custom buffer, which may store something else."""


@pytest.mark.parametrize("buffer", [None, CustomBuffer])
def test_the_unrolled_rollout_needs_sb3s_buffer(buffer: Any) -> None:
    env = DummyVecEnv([lambda: RandomEnv(spaces.Discrete(2))])
    model = TRPO("MlpPolicy", env, n_steps=128, rollout_buffer_class=buffer, device="cpu")
    assert can_collect(model, model.rollout_buffer, model.n_steps) == (buffer is None)
