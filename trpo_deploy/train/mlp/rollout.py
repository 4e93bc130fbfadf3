"""Rollouts of a standard MLP: a step takes hardly any torch, all else is a batch before or after.

Torch's overhead for one small observation is many times the arithmetic, and what it pushes out of
the processor's caches costs the environments as much again. So actions come from copies of the
weights, by :mod:`step_numpy` or its compiled twin, and from noise that was drawn at the rollout's
start, as torch's distributions would have drawn it step by step (MultiBinary actions and gSDE's
matrices are drawn as they go): this is the same rollout as SB3's own, but for rounding, unless a
callback or an environment draws from torch's generator in between.
Values, log-probabilities and the bootstraps at time limits are computed for the whole rollout at
once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor

from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.mlp import step_numpy
from trpo_deploy.train.mlp.actor import MlpActor
from trpo_deploy.train.mlp.network import DenseProducts, StandardMlp, network_input

Sampler: TypeAlias = Callable[[int, Array, Array], tuple[Array, Array]]
"""From the step and the last layer's input and output, ``(envs, n)``, to the actions.

First as the distribution has them, then as the environments take them.
"""


def can_collect(model: OnPolicyAlgorithm) -> bool:
    """Whether :func:`collect_mlp_rollout` can take the place of SB3's rollout."""
    space, actions = model.observation_space, model.action_space
    # A buffer of fewer digits than the policy's gives other log-probabilities afterwards.
    exact = not isinstance(actions, spaces.Box) or actions.dtype in (np.float32, np.float64)
    return (
        isinstance(space, spaces.Box)
        and not is_image_space(space)
        and exact
        and type(model.rollout_buffer) is RolloutBuffer
        and model.device.type == "cpu"
    )


def collect_mlp_rollout(
    model: OnPolicyAlgorithm,
    mlp: StandardMlp,
    env: VecEnv,
    callback: BaseCallback,
    rollout_buffer: RolloutBuffer,
    n_rollout_steps: int,
) -> bool:
    """Fill a buffer; see ``OnPolicyAlgorithm.collect_rollouts``, whose place it takes.

    Callbacks find the locals of that function by the same names, but for ``values`` and
    ``log_probs``, which do not exist yet while the rollout runs, and for ``done`` and ``idx``.
    Until its end the buffer has actions, rewards and episode starts, and stands at its beginning.

    Returns:
        Whether the rollout is complete; false if a callback ended it.
    """
    model.policy.set_training_mode(False)
    rollout_buffer.reset()
    if model.use_sde:
        model.policy.reset_noise(env.num_envs)
    callback.on_rollout_start()
    arithmetic = choose_arithmetic(model, mlp)
    actor = _actor(arithmetic, mlp, env.num_envs)
    sample = _sampler(arithmetic, model, mlp, n_rollout_steps)
    step = _stepper(arithmetic, env)
    truncated: list[tuple[int, int, Array]] = []
    last_obs: Any = model._last_obs
    observations = np.empty((n_rollout_steps, *last_obs.shape), last_obs.dtype)
    for n_steps, obs_tensor in enumerate(torch.from_numpy(observations)):  # noqa: B007 - a local
        if model.use_sde and model.sde_sample_freq > 0 and n_steps % model.sde_sample_freq == 0:
            model.policy.reset_noise(env.num_envs)
        last_obs = model._last_obs
        observations[n_steps] = last_obs  # what obs_tensor shows
        actions, clipped_actions = sample(n_steps, *actor(last_obs))
        new_obs, rewards, dones, infos = step(clipped_actions)
        model.num_timesteps += env.num_envs
        callback.update_locals(locals())
        if not callback.on_step():
            return False
        model._update_info_buffer(infos, dones)
        rollout_buffer.actions[n_steps] = actions.reshape(env.num_envs, -1)
        rollout_buffer.rewards[n_steps] = rewards
        rollout_buffer.episode_starts[n_steps] = model._last_episode_starts
        if True in dones.tolist():  # a tenth of what any() costs
            truncated += [
                (n_steps, i, np.array(infos[i]["terminal_observation"]))  # it may be used again
                for i, done in enumerate(dones.tolist())
                if done
                and infos[i].get("TimeLimit.truncated")
                and "terminal_observation" in infos[i]
            ]
        model._last_obs = new_obs
        model._last_episode_starts = dones
    rollout_buffer.observations[:] = observations
    n_steps = n_rollout_steps  # for callbacks, which find it so in SB3's rollout
    _complete(model, mlp, rollout_buffer, truncated)
    callback.update_locals(locals())
    callback.on_rollout_end()
    return True


@torch.no_grad()
def _complete(
    model: OnPolicyAlgorithm,
    mlp: StandardMlp,
    buffer: RolloutBuffer,
    truncated: list[tuple[int, int, Array]],
) -> None:
    """Values, log-probabilities, time-limit bootstraps, returns and advantages."""
    policy = model.policy
    shape = buffer.rewards.shape
    observations = torch.from_numpy(buffer.observations.reshape(-1, *buffer.obs_shape))
    actions = torch.from_numpy(buffer.actions.reshape(-1, buffer.action_dim).astype(np.float32))
    if isinstance(model.action_space, spaces.Discrete):
        actions = actions.long().flatten()
    features = network_input(policy, observations, policy.vf_features_extractor)
    values = DenseProducts(mlp.critic, len(features)).forward(features)
    buffer.values[:] = values.numpy().reshape(shape)
    log_probs = MlpActor(policy, mlp, observations).distribution().log_prob(actions)
    buffer.log_probs[:] = log_probs.numpy().reshape(shape)
    if truncated:
        final = torch.from_numpy(np.stack([obs for _, _, obs in truncated]).astype(np.float32))
        bootstraps = policy.predict_values(final).numpy().ravel()
        for (step, i, _), value in zip(truncated, bootstraps, strict=True):
            buffer.rewards[step, i] += model.gamma * value
    buffer.pos, buffer.full = buffer.buffer_size, True
    last: Any = model._last_obs
    last_values = policy.predict_values(torch.from_numpy(last.astype(np.float32)))
    dones: Any = model._last_episode_starts
    buffer.advantages[:] = generalized_advantages(
        buffer.rewards,
        np.vstack([buffer.values, last_values.numpy().reshape(1, -1)]),
        np.vstack([buffer.episode_starts[1:], dones]),
        model.gamma,
        model.gae_lambda,
    )
    buffer.returns[:] = buffer.advantages + buffer.values


def generalized_advantages(
    rewards: Array, values: Array, ends: Array, gamma: float, gae_lambda: float
) -> Array:
    """Generalised advantage estimates (Schulman et al. 2016, eq. 16, arXiv:1506.02438).

    What ``RolloutBuffer.compute_returns_and_advantage`` gives, but for rounding.

    Args:
        rewards: ``(steps, envs)``.
        values: of the observations, and of the one after the last step, ``(steps + 1, envs)``.
        ends: whether the episode ended with the step, ``(steps, envs)``.
        gamma: discount.
        gae_lambda: between one-step advantages (0) and those of the whole return (1).

    Returns:
        ``(steps, envs)``.
    """
    alive = np.float32(1.0) - ends.astype(np.float32)
    advantages = rewards + np.float32(gamma) * alive * values[1:] - values[:-1]
    decay = np.float32(gamma * gae_lambda) * alive
    # Sums over 1, 2, 4 ... steps, each of two of half the length, in place of a loop over steps.
    steps, length = len(advantages), 1
    with np.errstate(under="ignore", invalid="ignore"):  # what is not finite, the update refuses
        while length < steps:
            advantages[:-length] += decay[: steps - length] * advantages[length:]
            decay = decay[:-length] * decay[length:]
            length *= 2
    return np.asarray(advantages)


def choose_arithmetic(model: OnPolicyAlgorithm, mlp: StandardMlp) -> ModuleType:
    """The compiled functions, or NumPy's where they do not know something or take longer."""
    space, compiled = model.action_space, step_numpy.compiled
    if (
        compiled is not None
        and model.n_envs <= 8  # for more, NumPy's products make up for its calls
        and all(activation.onnx in compiled.ACTIVATIONS for activation in mlp.actor.activations)
        and (not isinstance(space, spaces.Box) or space.dtype == np.float32)
    ):
        return compiled
    return step_numpy


def _actor(
    arithmetic: ModuleType, mlp: StandardMlp, n_envs: int
) -> Callable[[Array], tuple[Array, Array]]:
    linears = mlp.actor.linears
    actor: Callable[[Array], tuple[Array, Array]] = arithmetic.Actor(
        [linear.weight.detach().numpy().T for linear in linears],
        [linear.bias.detach().numpy() for linear in linears],
        mlp.actor.activations,
        n_envs,
    )
    return actor


def _rows(values: Array, n_envs: int) -> Array:
    """The same for each environment."""
    return np.broadcast_to(values, (n_envs, *values.shape)).copy()


def _sampler(
    arithmetic: ModuleType, model: OnPolicyAlgorithm, mlp: StandardMlp, n_steps: int
) -> Sampler:
    """How to draw actions, with the random numbers that torch's distributions would take."""
    space, distribution = model.action_space, model.policy.action_dist
    if isinstance(space, spaces.Box):
        low, high = _rows(space.low, model.n_envs), _rows(space.high, model.n_envs)
        if isinstance(distribution, StateDependentNoiseDistribution):
            return partial(_state_dependent, model.policy, distribution, low, high)
        assert mlp.log_std is not None
        deviation = _rows(mlp.log_std.detach().exp().numpy(), model.n_envs)
        noise = _normal(n_steps, deviation.shape)
        if model.policy.squash_output:
            return partial(_squashed, model.policy, noise, deviation, low.shape)

        def gaussian(step: int, _: Array, mean: Array) -> tuple[Array, Array]:
            actions: tuple[Array, Array] = arithmetic.explored(
                mean, noise[step], deviation, low, high
            )
            return actions

        return gaussian
    draw = _discrete(model, n_steps)

    def discrete(step: int, _: Array, logits: Array) -> tuple[Array, Array]:
        actions = draw(step, logits)
        return actions, actions

    return discrete


def _squashed(
    policy: BasePolicy,
    noise: Array,
    deviation: Array,
    shape: tuple[int, ...],
    step: int,
    _: Array,
    mean: Array,
) -> tuple[Array, Array]:
    """Those of a Gaussian whose policy squashes them for the environment."""
    actions: Array = (mean + noise[step] * deviation).reshape(shape)
    return actions, policy.unscale_action(actions)


def _normal(n_steps: int, shape: tuple[int, ...]) -> Array:
    """Standard normal numbers, ``(steps, *shape)``, as each step would draw its own."""
    size = math.prod(shape)
    if size < 16:
        # So few torch draws one by one, as it does where they do not lie side by side in memory.
        # One call then gives the numbers of all steps, in a fifth of the time or less.
        apart = torch.empty(n_steps, size + 1)[:, :size]
        return apart.normal_().reshape(n_steps, *shape).numpy()
    (noise,) = _drawn(Tensor.normal_, [(n_steps, *shape)])
    return noise


def _drawn(fill: Callable[[Tensor], object], shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Random numbers, ``(steps, ...)`` each, in the order in which the steps would draw them."""
    tensors = [torch.empty(shape) for shape in shapes]
    for step in zip(*tensors, strict=True):
        for part in step:
            fill(part)
    return [tensor.numpy() for tensor in tensors]


def _discrete(model: OnPolicyAlgorithm, n_steps: int) -> Callable[[int, Array], Array]:
    space = model.action_space
    if isinstance(space, spaces.Discrete):
        draw = _categorical(n_steps, model.n_envs, [int(space.n)])
        return lambda step, logits: draw(step, logits)[:, 0]
    if isinstance(space, spaces.MultiDiscrete):
        return _categorical(n_steps, model.n_envs, space.nvec.tolist())
    assert isinstance(space, spaces.MultiBinary)
    return lambda _, logits: torch.bernoulli(torch.from_numpy(logits).sigmoid()).numpy()


def _categorical(n_steps: int, n_envs: int, sizes: Sequence[int]) -> Callable[[int, Array], Array]:
    """As ``torch.multinomial`` draws one sample of each: the first of exponential clocks to ring.

    A clock of mean 1 slowed down to a mean of 1 / p has the logarithm of its time less log p.
    What all logits have in common changes nothing, but in float32 it may leave no digit of that.
    """
    clocks = _drawn(Tensor.exponential_, [(n_steps, n_envs, n) for n in sizes])
    times = np.log(np.concatenate(clocks, axis=2))
    cuts = np.cumsum(sizes)[:-1].tolist()

    def draw(step: int, logits: Array) -> Array:
        ahead = np.subtract(logits, times[step], dtype=np.float64)
        parts = np.split(ahead, cuts, axis=1) if cuts else [ahead]
        return np.stack([part.argmax(axis=1) for part in parts], axis=1)

    return draw


def _state_dependent(
    policy: BasePolicy,
    distribution: StateDependentNoiseDistribution,
    low: Array,
    high: Array,
    _: int,
    latent: Array,
    mean: Array,
) -> tuple[Array, Array]:
    """The actions of gSDE, as its ``get_noise`` chooses between one matrix and one for each."""
    matrices = distribution.exploration_matrices
    latent = latent.reshape(len(latent), -1)  # without a hidden layer it is the observation
    if len(latent) == 1 or len(latent) != len(matrices):
        noise = np.dot(latent, distribution.exploration_mat.detach().numpy())
    else:
        noise = np.matmul(latent[:, None], matrices.detach().numpy())[:, 0]
    actions: Array = (mean + noise).reshape(low.shape)
    if distribution.bijector is None:
        return actions, np.minimum(np.maximum(actions, low), high)
    # NumPy's differs in the last digit, which near the bounds moves log-probabilities.
    actions = torch.tanh(torch.from_numpy(actions)).numpy()
    return actions, policy.unscale_action(actions)


# --- VecNormalize without its copies ----------------------------------------------------------

Step: TypeAlias = Callable[[Array], tuple[Array, Array, Array, Any]]


def _stepper(arithmetic: ModuleType, env: VecEnv) -> Step:
    if type(env) is VecNormalize and env.norm_obs and isinstance(env.observation_space, spaces.Box):
        return partial(_normalized_step, arithmetic, env)
    return env.step  # type: ignore[return-value]


_NO_MEAN = np.zeros(())


def _normalized_step(
    arithmetic: ModuleType, env: VecNormalize, actions: Array
) -> tuple[Array, Array, Array, Any]:
    """``VecNormalize.step`` on the same object and with the same numbers, but for rounding."""
    raw: Any
    raw, rewards, dones, infos = env.venv.step(actions)
    env.old_obs, env.old_reward = raw, rewards
    rms: RunningMeanStd = env.obs_rms  # type: ignore[assignment]
    if env.training:
        _update(arithmetic, rms, raw)
        env.returns = arithmetic.discounted(env.returns, env.gamma, rewards)
        _update(arithmetic, env.ret_rms, env.returns)

    def normalized(observations: Array) -> Array:
        scaled: Array = arithmetic.normalized(
            observations, rms.mean, rms.var, env.epsilon, env.clip_obs
        )
        return scaled

    if env.norm_reward:
        rewards = arithmetic.normalized(
            rewards, _NO_MEAN, env.ret_rms.var, env.epsilon, env.clip_reward
        )
    else:
        rewards = rewards.astype(np.float32)
    if True in dones.tolist():
        env.returns[dones] = 0
        for info, done in zip(infos, dones.tolist(), strict=True):
            if done and "terminal_observation" in info:
                final = np.asarray(info["terminal_observation"])
                info["terminal_observation"] = normalized(final[None])[0]
    return normalized(raw), rewards, dones, infos


def _update(arithmetic: ModuleType, rms: RunningMeanStd, batch: Array) -> None:
    rms.mean, rms.var = arithmetic.updated_moments(batch, rms.mean, rms.var, rms.count)
    rms.count += len(batch)
