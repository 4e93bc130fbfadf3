"""Unrolled rollouts: torch runs on the whole rollout, and as little as possible in a step.

Torch's overhead for one small observation is many times the arithmetic, and evicting the
environments' data from the cache costs as much again. So a step of a standard MLP computes actions
on copies of the weights, by :mod:`~trpo_deploy.train.mlp.step_arithmetic`. A step of another policy
runs the modules of its actor. Values, log-probabilities and the bootstraps at time limits are
computed for the whole rollout at its end.

Noise is drawn at the start of the rollout, as torch's distributions would draw it step by step.
MultiBinary actions and gSDE's matrices are drawn in each step. The rollout equals SB3's up to
rounding, unless a callback or an environment draws from torch's generator during the rollout.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.mlp.advantages import generalized_advantages
from trpo_deploy.train.mlp.noise import reset_noise
from trpo_deploy.train.mlp.normalized_step import env_step, is_as_sb3s, stepped_envs
from trpo_deploy.train.mlp.rollout_checks import (
    PolicyOfRollout,
    changed_during_rollout,
    unusable_output,
)
from trpo_deploy.train.mlp.rollout_observations import RolloutObservations
from trpo_deploy.train.mlp.sampler import make_sampler
from trpo_deploy.train.mlp.standard_mlp import StandardMlp, has_sb3s_methods
from trpo_deploy.train.mlp.step_arithmetic import choose_arithmetic
from trpo_deploy.train.mlp.step_networks import MlpNetworks, ModuleNetworks, StepNetworks
from trpo_deploy.train.update.as_written import is_as_written
from trpo_deploy.train.update.samples import map_arrays


class Truncated(NamedTuple):
    """An episode that a time limit ended."""

    step: int
    env: int
    gamma: float
    """The model's discount at this step; a callback may change it."""
    observation: Any
    """The last one."""


def can_collect(model: OnPolicyAlgorithm, buffer: RolloutBuffer, n_rollout_steps: int) -> bool:
    """Whether :func:`collect_unrolled` can replace SB3's rollout."""
    actions = model.action_space
    # A buffer with fewer digits than the policy would change the log-probabilities.
    exact = not isinstance(actions, spaces.Box) or actions.dtype in (np.float32, np.float64)
    return (
        exact
        and n_rollout_steps == buffer.buffer_size
        and _computes_as_sb3(model, buffer)
        and model.device.type == "cpu"
        and getattr(model, "unrolled", True)  # an option of TRPO
    )


def _computes_as_sb3(model: OnPolicyAlgorithm, buffer: RolloutBuffer) -> bool:
    """Whether policy and buffer have SB3's methods, which an unrolled rollout does not call."""
    return is_as_written(buffer, RolloutBuffer, DictRolloutBuffer) and has_sb3s_methods(
        model.policy
    )


def start_rollout(
    model: OnPolicyAlgorithm, env: VecEnv, callback: BaseCallback, buffer: RolloutBuffer
) -> None:
    """What ``OnPolicyAlgorithm.collect_rollouts`` does before the first step."""
    model.policy.set_training_mode(False)
    buffer.reset()
    if model.use_sde:
        reset_noise(model.policy, env.num_envs)
    callback.on_rollout_start()


def collect_unrolled(
    model: OnPolicyAlgorithm,
    mlp: StandardMlp | None,
    env: VecEnv,
    callback: BaseCallback,
    rollout_buffer: RolloutBuffer,
    n_rollout_steps: int,
) -> bool:
    """Fill the buffer after :func:`start_rollout`.

    Both together replace ``OnPolicyAlgorithm.collect_rollouts``. Callbacks find the locals of that
    function under the same names, except ``done``, ``idx``, and ``values`` and ``log_probs``, which
    are computed after the last step. Until then the buffer holds actions, rewards and episode
    starts.

    Args:
        model: The algorithm; its policy has a standard MLP, or SB3's methods.
        mlp: The policy as a standard MLP, or None if it has other modules.
        env: The environments.
        callback: Called as in SB3's rollout.
        rollout_buffer: The buffer to fill.
        n_rollout_steps: Number of steps of each environment.

    Returns:
        Whether the rollout is complete; False if a callback ended it.

    Raises:
        ObservationError: An observation has no usable number, and so has the policy's output.
        TrainingError: The policy's output is not usable for other reasons, or the policy changed
            during the rollout.
    """
    policy, replaced = PolicyOfRollout(model), stepped_envs(env)
    arithmetic = choose_arithmetic(model, mlp)
    networks: StepNetworks = (
        ModuleNetworks(model.policy) if mlp is None else MlpNetworks(model, mlp, arithmetic)
    )
    sample = make_sampler(arithmetic, model, n_rollout_steps)
    step = env_step(arithmetic, env)
    is_box = isinstance(model.action_space, spaces.Box)
    truncated: list[Truncated] = []
    last_obs: Any = model._last_obs
    observations = RolloutObservations(last_obs, n_rollout_steps)
    for n_steps, obs_tensor in enumerate(observations.tensors()):
        if model.use_sde and model.sde_sample_freq > 0 and n_steps % model.sde_sample_freq == 0:
            reset_noise(model.policy, env.num_envs)
        last_obs = model._last_obs
        observations.write(n_steps, last_obs)  # the memory of obs_tensor
        latent, output = networks.act(last_obs, obs_tensor)
        # A logit of minus infinity excludes an action.
        if not (is_box or arithmetic.finite(output)) and np.isnan(output).any():
            raise unusable_output(model, output)
        actions, clipped_actions = sample(n_steps, latent, output)
        if is_box and not arithmetic.finite(clipped_actions):
            raise unusable_output(model, clipped_actions)
        new_obs, rewards, dones, infos = step(clipped_actions)
        model.num_timesteps += env.num_envs
        callback.update_locals(locals())
        if not callback.on_step():
            return False
        model._update_info_buffer(infos, dones)
        rollout_buffer.actions[n_steps] = actions.reshape(env.num_envs, -1)
        rollout_buffer.rewards[n_steps] = rewards
        rollout_buffer.episode_starts[n_steps] = model._last_episode_starts
        rollout_buffer.pos = n_steps + 1
        if True in dones.tolist():  # a tenth of the time of any()
            truncated += _truncated(n_steps, model.gamma, dones, infos)
        model._last_obs = new_obs
        model._last_episode_starts = dones
    observations.copy_to(rollout_buffer)
    n_steps = n_rollout_steps  # as callbacks find it in SB3's rollout
    _check_unchanged(model, policy, rollout_buffer, replaced)
    _complete(model, networks, rollout_buffer, truncated)
    callback.update_locals(locals())
    callback.on_rollout_end()
    return True


def _check_unchanged(
    model: OnPolicyAlgorithm,
    policy: PolicyOfRollout,
    buffer: RolloutBuffer,
    replaced: list[VecEnv],
) -> None:
    """Raise an error if a callback changed something that the rollout relied on."""
    policy.check_unchanged()
    if not _computes_as_sb3(model, buffer):
        raise changed_during_rollout("a method or a hook of the policy or of the rollout buffer")
    if not all(map(is_as_sb3s, replaced)):
        raise changed_during_rollout("a method of the environments or of their normalizer")


def _truncated(step: int, gamma: float, dones: Array, infos: Any) -> list[Truncated]:
    """The episodes that a time limit ended in a step."""
    return [
        # Copies: the environment may reuse its arrays.
        Truncated(step, i, gamma, map_arrays(np.array, infos[i]["terminal_observation"]))
        for i, done in enumerate(dones.tolist())
        if done
        and infos[i].get("TimeLimit.truncated")
        and infos[i].get("terminal_observation") is not None
    ]


@torch.no_grad()
def _complete(
    model: OnPolicyAlgorithm,
    networks: StepNetworks,
    buffer: RolloutBuffer,
    truncated: list[Truncated],
) -> None:
    """Add values, log-probabilities, time-limit bootstraps, returns and advantages."""
    policy = model.policy
    shape = buffer.rewards.shape
    observations = map_arrays(
        lambda part: torch.from_numpy(part.reshape(-1, *part.shape[2:])), buffer.observations
    )
    actions = torch.from_numpy(buffer.actions.reshape(-1, buffer.action_dim).astype(np.float32))
    if isinstance(model.action_space, spaces.Discrete):
        actions = actions.long().flatten()
    values, log_probs = networks.evaluate(observations, actions)
    buffer.values[:] = values.numpy().reshape(shape)
    buffer.log_probs[:] = log_probs.numpy().reshape(shape)
    if truncated:
        final = _stacked([each.observation for each in truncated])
        bootstraps = policy.predict_values(final).numpy().ravel()
        for each, value in zip(truncated, bootstraps, strict=True):
            buffer.rewards[each.step, each.env] += each.gamma * value
    buffer.full = True
    # Copies, since torch warns of arrays that are not writable.
    last = map_arrays(lambda part: torch.from_numpy(np.array(part)), model._last_obs)
    last_values = policy.predict_values(last)
    dones: Any = model._last_episode_starts
    buffer.advantages[:] = generalized_advantages(
        buffer.rewards,
        np.vstack([buffer.values, last_values.numpy().reshape(1, -1)]),
        np.vstack([buffer.episode_starts[1:], dones]),
        buffer.gamma,
        buffer.gae_lambda,
    )
    buffer.returns[:] = buffer.advantages + buffer.values


def _stacked(observations: list[Any]) -> Any:
    """Single observations as one batch of tensors."""
    if isinstance(observations[0], dict):
        return {key: _stacked([each[key] for each in observations]) for key in observations[0]}
    return torch.from_numpy(np.stack(observations))
