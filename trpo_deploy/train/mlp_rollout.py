"""Rollouts of a standard MLP: a NumPy actor by step, everything else in one batch at the end.

Torch's overhead for one small observation is many times the arithmetic, so actions come from
NumPy views of the same weights. Noise is drawn from torch as its distributions draw it, which
costs little and makes this the same rollout as SB3's own, but for rounding. Values,
log-probabilities and the bootstraps at time limits are what the same torch modules give for the
whole rollout at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from trpo_deploy.spec import Array
from trpo_deploy.train.mlp import StandardMlp

Sampler: TypeAlias = Callable[[Array], Array]
"""From what the network gives, ``(envs, n)``, to one action for each environment."""


def can_collect(model: OnPolicyAlgorithm) -> bool:
    """Whether :func:`collect_mlp_rollout` can take the place of SB3's rollout."""
    space = model.observation_space
    return (
        isinstance(space, spaces.Box)
        and not is_image_space(space)
        and type(model.rollout_buffer) is RolloutBuffer
        and model.device.type == "cpu"
    )


def collect_mlp_rollout(
    model: OnPolicyAlgorithm,
    mlp: StandardMlp,
    env: VecEnv,
    callback: BaseCallback,
    buffer: RolloutBuffer,
    n_rollout_steps: int,
) -> bool:
    """Fill a buffer; see ``OnPolicyAlgorithm.collect_rollouts``, whose place it takes.

    Callbacks find the locals of that function by the same names, but for ``values`` and
    ``log_probs``, which do not exist yet while the rollout runs.

    Returns:
        Whether the rollout is complete; false if a callback ended it.
    """
    model.policy.set_training_mode(False)
    buffer.reset()
    callback.on_rollout_start()
    actor, sample, to_env = _actor(mlp), _sampler(model, mlp), _to_env(model)
    step = _stepper(env)
    truncated: list[tuple[int, int, Array]] = []
    assert model._last_obs is not None
    for n_steps in range(n_rollout_steps):
        last_obs: Any = model._last_obs
        obs_tensor = torch.from_numpy(last_obs)
        actions = sample(actor(last_obs))
        clipped_actions = to_env(actions)
        new_obs, rewards, dones, infos = step(clipped_actions)
        model.num_timesteps += env.num_envs
        callback.update_locals(locals())
        if not callback.on_step():
            return False
        model._update_info_buffer(infos, dones)
        buffer.observations[n_steps] = last_obs
        buffer.actions[n_steps] = actions.reshape(env.num_envs, -1)
        buffer.rewards[n_steps] = rewards
        buffer.episode_starts[n_steps] = model._last_episode_starts
        if dones.any():
            truncated += [
                (n_steps, int(i), infos[i]["terminal_observation"])
                for i in np.flatnonzero(dones)
                if infos[i].get("TimeLimit.truncated") and "terminal_observation" in infos[i]
            ]
        model._last_obs = new_obs
        model._last_episode_starts = dones
    _complete(model, buffer, truncated)
    callback.update_locals(locals())
    callback.on_rollout_end()
    return True


@torch.no_grad()
def _complete(
    model: OnPolicyAlgorithm, buffer: RolloutBuffer, truncated: list[tuple[int, int, Array]]
) -> None:
    """Values, log-probabilities, time-limit bootstraps, returns and advantages."""
    policy = model.policy
    shape = buffer.rewards.shape
    observations = torch.from_numpy(buffer.observations.reshape(-1, *buffer.obs_shape))
    actions = torch.from_numpy(buffer.actions.reshape(-1, buffer.action_dim).astype(np.float32))
    if isinstance(model.action_space, spaces.Discrete):
        actions = actions.long().flatten()
    buffer.values[:] = policy.predict_values(observations).numpy().reshape(shape)
    log_probs = policy.get_distribution(observations).log_prob(actions)
    buffer.log_probs[:] = log_probs.numpy().reshape(shape)
    if truncated:
        final = torch.from_numpy(np.stack([obs for _, _, obs in truncated]).astype(np.float32))
        values = policy.predict_values(final).numpy().ravel()
        for (step, i, _), value in zip(truncated, values, strict=True):
            buffer.rewards[step, i] += model.gamma * value
    buffer.pos, buffer.full = buffer.buffer_size, True
    last: Any = model._last_obs
    last_values = policy.predict_values(torch.from_numpy(last.astype(np.float32)))
    dones: Any = model._last_episode_starts
    buffer.compute_returns_and_advantage(last_values, dones)


def _actor(mlp: StandardMlp) -> Callable[[Array], Array]:
    """The network in NumPy, on the memory of the torch parameters."""
    layers = [
        (linear.weight.detach().numpy().T, linear.bias.detach().numpy())
        for linear in mlp.actor.linears
    ]
    functions = [activation.array for activation in mlp.actor.activations]

    def forward(observations: Array) -> Array:
        x = observations.reshape(len(observations), -1).astype(np.float32, copy=False)
        for (weight, bias), function in zip(layers, functions, strict=False):
            x = function(x @ weight + bias)
        weight, bias = layers[-1]
        return np.asarray(x @ weight + bias)

    return forward


def _sampler(model: OnPolicyAlgorithm, mlp: StandardMlp) -> Sampler:
    """How to draw actions, with the random numbers that torch's distributions would take."""
    space = model.action_space
    if isinstance(space, spaces.Box):
        assert mlp.log_std is not None
        deviation = mlp.log_std.detach().exp().numpy()

        def gaussian(mean: Array) -> Array:
            noise = torch.randn(mean.shape).numpy()
            actions: Array = (mean + noise * deviation).reshape(-1, *space.shape)
            return actions

        return gaussian
    if isinstance(space, spaces.Discrete):
        return _categorical
    if isinstance(space, spaces.MultiDiscrete):
        cuts = np.cumsum(space.nvec)[:-1]
        return lambda logits: np.stack(
            [_categorical(part) for part in np.split(logits, cuts, axis=1)], axis=1
        )
    assert isinstance(space, spaces.MultiBinary)
    return lambda logits: torch.bernoulli(torch.from_numpy(logits).sigmoid_()).numpy()


def _categorical(logits: Array) -> Array:
    """As ``torch.multinomial`` draws one sample: the first of exponential clocks to ring."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    clocks = torch.empty(logits.shape).exponential_().numpy()
    return np.asarray((weights / clocks).argmax(axis=1))


def _to_env(model: OnPolicyAlgorithm) -> Callable[[Array], Array]:
    """From the distribution's actions to the environment's, as SB3's rollout has it."""
    space = model.action_space
    if not isinstance(space, spaces.Box):
        return lambda actions: actions
    if model.policy.squash_output:
        return model.policy.unscale_action
    low, high = space.low, space.high
    return lambda actions: np.minimum(np.maximum(actions, low), high)


# --- VecNormalize without its copies ----------------------------------------------------------

Step: TypeAlias = Callable[[Array], tuple[Array, Array, Array, Any]]


def _stepper(env: VecEnv) -> Step:
    if type(env) is VecNormalize and env.norm_obs and isinstance(env.observation_space, spaces.Box):
        return _NormalizedStep(env)
    return env.step  # type: ignore[return-value]


class _NormalizedStep:
    """``VecNormalize.step`` on the same object and with the same numbers, copied less."""

    def __init__(self, env: VecNormalize) -> None:
        self._env = env

    def __call__(self, actions: Array) -> tuple[Array, Array, Array, Any]:
        env = self._env
        raw: Any
        raw, rewards, dones, infos = env.venv.step(actions)
        env.old_obs, env.old_reward = raw, rewards
        rms: RunningMeanStd = env.obs_rms  # type: ignore[assignment]
        if env.training:
            _update(rms, raw)
        observations = self._normalized(raw)
        if env.training:
            env.returns = env.returns * env.gamma + rewards
            _update(env.ret_rms, env.returns)
        if env.norm_reward:
            scale = np.sqrt(env.ret_rms.var + env.epsilon)
            rewards = np.clip(rewards / scale, -env.clip_reward, env.clip_reward)
        for i in np.flatnonzero(dones):
            if "terminal_observation" in infos[i]:
                final = infos[i]["terminal_observation"]
                infos[i]["terminal_observation"] = self._normalized(final)
        env.returns[dones] = 0
        return observations, rewards.astype(np.float32), dones, infos

    def _normalized(self, observations: Any) -> Array:
        env = self._env
        rms: RunningMeanStd = env.obs_rms  # type: ignore[assignment]
        scaled = (observations - rms.mean) / np.sqrt(rms.var + env.epsilon)
        limit = env.clip_obs
        clipped: Array = np.minimum(np.maximum(scaled, -limit), limit).astype(np.float32)
        return clipped


def _update(rms: RunningMeanStd, batch: Array) -> None:
    """``RunningMeanStd.update``, with moments by two reductions and no ``np.var``."""
    mean = batch.mean(axis=0)
    centred = batch - mean
    rms.update_from_moments(mean, (centred * centred).mean(axis=0), len(batch))
