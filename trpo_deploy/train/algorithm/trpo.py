r"""Trust region policy optimization as a Stable-Baselines3 algorithm.

TRPO (Schulman et al. 2015, https://arxiv.org/abs/1502.05477) maximizes the surrogate

.. math:: L(\theta) = E[ \pi_\theta(a|s) / \pi_{old}(a|s) \; A(s, a) ]

subject to :math:`E[KL] \le \delta` (eq. 14). With the surrogate's gradient g and the Fisher
matrix F, the direction is :math:`x = F^{-1} g`, by conjugate gradient (appendix C). The longest
step that the quadratic model of the KL allows is :math:`\sqrt{2 \delta / x^T F x}`. A backtracking
line search ensures both the improvement and the constraint.
"""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import LinearSchedule, explained_variance
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from trpo_deploy.errors import TrainingError
from trpo_deploy.sb3.squashed import check_finite_bounds, squashed
from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.algorithm.paths import collect_rollout, path_names, update_path
from trpo_deploy.train.algorithm.return_scale import NO_RETURNS, scale_rewards, with_returns
from trpo_deploy.train.algorithm.snapshot import (
    NormalizerSnapshot,
    PolicySnapshot,
    same_on_all_ranks,
)
from trpo_deploy.train.algorithm.translated import TranslatedAlgorithm
from trpo_deploy.train.distributed.part import Part
from trpo_deploy.train.distributed.randomness import shared_randomness
from trpo_deploy.train.distributed.world import world
from trpo_deploy.train.update.actor import Actor
from trpo_deploy.train.update.conjugate_gradient import conjugate_gradient
from trpo_deploy.train.update.kl import KLReduction, mean_kl
from trpo_deploy.train.update.line_search import line_search
from trpo_deploy.train.update.regression import CriticFit, RegressionSettings
from trpo_deploy.train.update.samples import PolicySamples, draw_policy_samples
from trpo_deploy.train.vec_env.gymnasium_vector import VectorEnv
from trpo_deploy.train.vec_env.normalizer import check_has_environments

SelfTRPO = TypeVar("SelfTRPO", bound="TRPO")

MAX_REFUSALS = 10
"""Abort after this many consecutive refused updates."""


@dataclass(frozen=True)
class PolicyStep:
    """Result of a policy step."""

    surrogate_before: float
    surrogate: float
    expected_gain: float
    """Surrogate gain that the gradient predicts for the accepted step."""
    kl: float
    step: float
    """Accepted fraction of the longest step; zero if the line search accepted none."""
    cg_residual: float
    """Squared norm of conjugate gradient's residual."""
    obstacle: str | None = None
    """Why no step was possible for this policy, or None. The rollout may train the critic."""
    refusal: str | None = None
    """Why the rollout has no usable numbers, or None."""

    @property
    def accepted(self) -> bool:
        """Whether the policy changed."""
        return self.step > 0


_PARTS_OF_SB3_CONTRIB = ("hessian_vector_product", "_compute_actor_grad")
"""Methods of ``sb3_contrib.TRPO`` that this class does not have, and that its users may replace."""


class TRPO(TranslatedAlgorithm):
    """Trust Region Policy Optimization (https://arxiv.org/abs/1502.05477).

    A drop-in replacement for ``sb3_contrib.TRPO``: the same parameters, defaults, attributes and
    saved files, and the same update given the same rollout and random state. The keyword-only
    parameters are extensions, each off by default.

    Args:
        policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, or a subclass of
            ``ActorCriticPolicy``.
        env: Gymnasium environment, its id, a ``VecEnv``, or a ``VectorEnv`` of Gymnasium.
        learning_rate: Learning rate of the critic, or a schedule of the remaining progress
            (from 1 to 0).
        n_steps: Steps of each environment per update.
        batch_size: Samples in a mini-batch of the critic.
        gamma: Discount factor.
        cg_max_steps: Maximum number of conjugate gradient steps.
        cg_damping: Added to the diagonal of the Fisher matrix.
        line_search_shrinking_factor: Factor by which the line search shrinks a rejected step.
        line_search_max_iter: Maximum number of line-search steps.
        n_critic_updates: Passes of the critic over each rollout.
        gae_lambda: Decay of the generalised advantage estimate, from one-step advantages (0) to
            those of the full return (1).
        use_sde: Explore with state-dependent noise (gSDE).
        sde_sample_freq: Sample gSDE's noise every k-th step; -1 for once per rollout.
        rollout_buffer_class: Rollout buffer class; None selects SB3's.
        rollout_buffer_kwargs: Keyword arguments of the rollout buffer.
        normalize_advantage: Normalize advantages to zero mean and unit standard deviation.
        target_kl: Size of the trust region. For Box and MultiBinary actions it bounds the KL's
            mean over the action dimensions, as in ``sb3_contrib``.
        sub_sampling_factor: Use every k-th sample in the policy step.
        stats_window_size: Number of episodes that logged means are taken over.
        tensorboard_log: Folder for TensorBoard files, or None.
        policy_kwargs: Keyword arguments of the policy.
        verbose: 0 for no output, 1 for information, 2 for debug messages.
        seed: Seed of all random generators.
        device: Device of the networks.
        _init_setup_model: Build the networks in the constructor.
        kl_reduction: Reduction of the KL over action dimensions: ``"mean"`` as in
            ``sb3_contrib``, or ``"sum"`` as in the paper.
        target_kl_end: Size of the trust region at the end of the run, reached linearly.
        gamma_end: Discount factor at the end of the run, reached linearly. A rollout has the value
            of its start.
        gae_lambda_end: ``gae_lambda`` at the end of the run, likewise.
        fisher_sub_sampling_factor: Compute the Fisher matrix on every k-th sample; the surrogate
            still uses all samples.
        critic_full_batch: Make each pass of the critic one step on the whole rollout.
        scale_returns: Train the critic on returns divided by their running standard deviation.
        learning_rate_end: Learning rate of the critic at the end of the run, reached linearly.
        critic_max_grad_norm: Maximum norm of the critic's gradient; larger gradients are scaled
            down to it.
        unrolled: Compute values and log-probabilities at the end of a rollout, if the policy
            supports it. Without it, callbacks find them at each step and may change weights
            there, as in SB3.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticCnnPolicy,
        "MultiInputPolicy": MultiInputActorCriticPolicy,
    }

    policy: ActorCriticPolicy

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | VectorEnv | str,
        learning_rate: float | Schedule = 1e-3,
        n_steps: int = 2048,
        batch_size: int = 128,
        gamma: float = 0.99,
        cg_max_steps: int = 15,
        cg_damping: float = 0.1,
        line_search_shrinking_factor: float = 0.8,
        line_search_max_iter: int = 10,
        n_critic_updates: int = 10,
        gae_lambda: float = 0.95,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        normalize_advantage: bool = True,
        target_kl: float = 0.01,
        sub_sampling_factor: int = 1,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        kl_reduction: KLReduction = "mean",
        target_kl_end: float | None = None,
        gamma_end: float | None = None,
        gae_lambda_end: float | None = None,
        fisher_sub_sampling_factor: int = 1,
        critic_full_batch: bool = False,
        scale_returns: bool = False,
        learning_rate_end: float | None = None,
        critic_max_grad_norm: float | None = None,
        unrolled: bool = True,
    ) -> None:
        if learning_rate_end is not None:
            if callable(learning_rate):
                raise ValueError("learning_rate is a schedule: leave learning_rate_end out")
            learning_rate = LinearSchedule(learning_rate, learning_rate_end, 1.0)
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=gae_lambda,
            ent_coef=0.0,  # no entropy bonus
            vf_coef=0.0,  # the critic has its own regression
            max_grad_norm=0.0,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            device=device,
            seed=seed,
            _init_setup_model=False,
            supported_action_spaces=(
                spaces.Box,
                spaces.Discrete,
                spaces.MultiDiscrete,
                spaces.MultiBinary,
            ),
        )
        if kl_reduction not in ("mean", "sum"):
            raise ValueError(f"kl_reduction={kl_reduction!r}: expected 'mean' or 'sum'")
        self.batch_size = batch_size
        self.cg_max_steps = cg_max_steps
        self.cg_damping = cg_damping
        self.line_search_shrinking_factor = line_search_shrinking_factor
        self.line_search_max_iter = line_search_max_iter
        self.n_critic_updates = n_critic_updates
        self.normalize_advantage = normalize_advantage
        self.target_kl = target_kl
        self.sub_sampling_factor = sub_sampling_factor
        self.kl_reduction: KLReduction = kl_reduction
        self.target_kl_end = target_kl_end
        self.gamma_end = gamma_end
        self.gae_lambda_end = gae_lambda_end
        self.fisher_sub_sampling_factor = fisher_sub_sampling_factor
        self.critic_full_batch = critic_full_batch
        self.scale_returns = scale_returns
        self.critic_max_grad_norm = critic_max_grad_norm
        self.unrolled = unrolled
        self.return_moments = dict(NO_RETURNS)
        self.running_returns: Array | None = None
        self._refusals_in_a_row = 0
        self._n_refusals = 0
        self._normalizer_before = NormalizerSnapshot(None)
        self._return_moments_before = self.return_moments
        if self.env is not None:
            _check_rollout_size(self)
        if _init_setup_model:
            self._setup_model()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _PARTS_OF_SB3_CONTRIB:
            if hasattr(cls, name):
                raise TypeError(
                    f"{cls.__name__} has the method {name} of sb3_contrib.TRPO, which "
                    "trpo_deploy.TRPO does not call: replace policy_step, or derive from "
                    "sb3_contrib.TRPO"
                )

    def _setup_model(self) -> None:
        dtype = torch.get_default_dtype()
        if dtype != torch.float32 and self.policy_class in self.policy_aliases.values():
            raise ValueError(
                f"torch's default dtype is {dtype}, but Stable-Baselines3's policies take float32: "
                "call torch.set_default_dtype(torch.float32) before"
            )
        if self.policy_kwargs.get("squash_output"):
            check_finite_bounds(self.action_space)
            if not self.use_sde:
                self.policy_class = squashed(self.policy_class)
        super()._setup_model()
        if self.verbose >= 1:
            print("Update: {}; rollout: {}".format(*self.paths))

    @property
    def paths(self) -> tuple[str, str]:
        """Names of the current update path and rollout path."""
        return path_names(self)

    def _excluded_save_params(self) -> list[str]:
        rollout_state = ["running_returns", "_normalizer_before", "_return_moments_before"]
        return [*super()._excluded_save_params(), *rollout_state]

    @property
    def current_target_kl(self) -> float:
        """Size of the trust region at this point of the run."""
        return self._scheduled(self.target_kl, self.target_kl_end)

    def _scheduled(self, start: float, end: float | None) -> float:
        """Value of a linear schedule at this point of the run; constant if it has no end."""
        if end is None:
            return start
        # The last rollout may exceed the requested number of steps.
        done = min(1.0 - self._current_progress_remaining, 1.0)
        return start + done * (end - start)

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log. The count of iterations includes those of earlier ``learn`` calls."""
        rollouts = self.num_timesteps // (self.n_steps * self.n_envs * world().size)
        super().dump_logs(max(iteration, rollouts))

    def learn(
        self: SelfTRPO,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "TRPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfTRPO:
        """Train for a number of environment steps; see ``BaseAlgorithm.learn``."""
        check_has_environments(self.get_vec_normalize_env())
        return super().learn(
            total_timesteps,
            callback,
            log_interval,
            tb_log_name,
            reset_num_timesteps,
            progress_bar,
        )

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Fill the buffer; see ``OnPolicyAlgorithm.collect_rollouts``."""
        self._normalizer_before = NormalizerSnapshot(self.get_vec_normalize_env())
        self._return_moments_before = self.return_moments
        if self.gamma_end is None and self.gae_lambda_end is None:
            return self._collect(env, callback, rollout_buffer, n_rollout_steps)
        # SB3 updates the progress after a rollout: a resumed run has none before its first one.
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        start = self.gamma
        # The bootstrap at time limits reads the model's gamma, the advantages the buffer's.
        self.gamma = rollout_buffer.gamma = self._scheduled(start, self.gamma_end)
        rollout_buffer.gae_lambda = self._scheduled(self.gae_lambda, self.gae_lambda_end)
        try:
            return self._collect(env, callback, rollout_buffer, n_rollout_steps)
        finally:
            self.gamma = start  # saved files and the next rollout start the schedule from it

    def _collect(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        if not self.scale_returns:
            return collect_rollout(self, env, callback, rollout_buffer, n_rollout_steps)
        assert self._last_episode_starts is not None
        scaled = scale_rewards(
            env, self.return_moments, self.gamma, self.running_returns, self._last_episode_starts
        )
        complete = collect_rollout(self, scaled, callback, rollout_buffer, n_rollout_steps)
        if complete:
            self.return_moments = with_returns(self.return_moments, scaled.seen_returns)
            self.running_returns = scaled.returns
        return complete

    def train(self) -> None:
        """Update policy and critic from the rollout buffer.

        Raises:
            TrainingError: :data:`MAX_REFUSALS` consecutive updates were refused, since their
                numbers were not usable.
        """
        with shared_randomness():
            self._train()

    def _train(self) -> None:
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        policy_before = PolicySnapshot(self.policy)
        drawn = draw_policy_samples(
            self.rollout_buffer, self.sub_sampling_factor, self.fisher_sub_sampling_factor
        )
        path = update_path(self.policy)
        actor = path.actor(drawn.samples.observations)
        batch_size = None if self.critic_full_batch else self.batch_size
        settings = RegressionSettings(self.n_critic_updates, batch_size, self.critic_max_grad_norm)
        regression = path.regression(actor, self.rollout_buffer, settings)
        step = self.policy_step(drawn, actor)
        # A rollout that is unusable for one of the two trains neither of them.
        if step.refusal is None:
            critic = regression.commit()
        else:
            regression.discard()
            critic = CriticFit(math.nan, step.refusal)
        if critic.refusal is not None:
            policy_before.restore()
        same_on_all_ranks(self.policy)
        self._n_updates += 1
        self._log(step, critic)
        self._count_refusal(critic.refusal)

    def policy_step(self, drawn: PolicySamples, actor: Actor) -> PolicyStep:
        """Change the policy by one step, eq. 14 of the paper.

        Args:
            drawn: Samples of the rollout.
            actor: The policy over their observations.
        """
        samples, part = drawn.samples, drawn.part
        actions, advantages = samples.actions, samples.advantages
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()  # the buffer stores all actions as floats
        if self.normalize_advantage:
            advantages = _normalized(advantages, part)
        with torch.no_grad():
            old = copy.copy(actor.distribution())

        def surrogate_of(new: Distribution) -> Tensor:
            ratio = torch.exp(new.log_prob(actions) - samples.old_log_prob)
            return (advantages * ratio).mean()

        def surrogate_and_kl() -> tuple[Tensor, Tensor]:
            new = actor.distribution()
            kl = mean_kl(new, old, self.kl_reduction)
            surrogate, kl = part.mean(torch.stack([surrogate_of(new), kl]))
            return surrogate, kl

        surrogate = surrogate_of(actor.distribution())
        own_product = actor.fisher_vector_product(
            old, self.kl_reduction, self.cg_damping, drawn.fisher.rows
        )

        def product(vector: Tensor) -> Tensor:
            return drawn.fisher.mean(own_product(vector))

        gradient = part.mean(actor.gradient(surrogate))
        direction, curvature, residual = conjugate_gradient(product, gradient, self.cg_max_steps)
        surrogate = part.mean(surrogate.detach())
        before = float(surrogate)
        if math.isfinite(curvature) and curvature <= 0:
            return PolicyStep(before, before, 0.0, 0.0, 0.0, residual, _obstacle(curvature))
        refusal = _refusal(gradient, residual, curvature)
        if refusal is not None:
            return PolicyStep(before, before, 0.0, 0.0, 0.0, residual, refusal=refusal)

        longest = math.sqrt(2 * self.current_target_kl / curvature)
        found = line_search(
            actor.parameters,
            longest * direction,
            surrogate_and_kl,
            surrogate,
            self.current_target_kl,
            self.line_search_shrinking_factor,
            self.line_search_max_iter,
        )
        gain = found.step * longest * float(gradient.dot(direction))
        return PolicyStep(before, found.surrogate, gain, found.kl, found.step, residual)

    def _log(self, step: PolicyStep, critic: CriticFit) -> None:
        values, returns = self.rollout_buffer.values, self.rollout_buffer.returns
        record = self.logger.record
        record("train/policy_objective", step.surrogate)
        record("train/value_loss", critic.loss)
        record("train/kl_divergence_loss", step.kl)
        record("train/kl_true", step.kl * self._kl_dimensions())
        record("train/explained_variance", _explained_variance(values, returns))
        record("train/is_line_search_success", float(step.accepted))
        record("train/line_search_step", step.step)
        record("train/surrogate_gain", step.surrogate - step.surrogate_before)
        record("train/surrogate_gain_expected", step.expected_gain)
        record("train/cg_residual", step.cg_residual)
        if step.obstacle is not None:
            record("train/no_policy_step", step.obstacle, exclude="tensorboard")
        if hasattr(self.policy, "log_std"):
            record("train/std", torch.exp(self.policy.log_std).mean().item())
        if self.target_kl_end is not None:
            record("train/target_kl", self.current_target_kl)
        if self.gamma_end is not None:
            record("train/gamma", self.rollout_buffer.gamma)
        if self.gae_lambda_end is not None:
            record("train/gae_lambda", self.rollout_buffer.gae_lambda)
        record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _kl_dimensions(self) -> int:
        """Factor between the logged KL, a mean over action dimensions, and the true KL."""
        averaged = isinstance(self.action_space, (spaces.Box, spaces.MultiBinary))
        if self.kl_reduction == "sum" or not averaged:
            return 1
        return get_action_dim(self.action_space)

    def _count_refusal(self, refusal: str | None) -> None:
        if refusal is None:
            self._refusals_in_a_row = 0
            return
        # The refused rollout must not leave its mark in the running statistics either.
        self._normalizer_before.restore(self.get_vec_normalize_env())
        self.return_moments, self.running_returns = self._return_moments_before, None
        self._n_refusals += 1
        self._refusals_in_a_row += 1
        self.logger.record("train/refused_updates", self._n_refusals)
        self.logger.record("train/refusal", refusal, exclude="tensorboard")
        if self._refusals_in_a_row >= MAX_REFUSALS:
            raise TrainingError(
                f"{MAX_REFUSALS} consecutive updates were refused, the last because {refusal}; "
                "check the rewards and observations for NaN and extreme values, or lower the "
                "learning rate"
            )


def _check_rollout_size(model: TRPO) -> None:
    n_envs = model.n_envs * world().size
    size, factor = model.n_steps * n_envs, max(model.sub_sampling_factor, 1)
    if model.normalize_advantage and size <= factor:
        # SB3 and sb3-contrib raise this type here, and their users catch it.
        what = "1" if factor == 1 else f"sub_sampling_factor={factor}"
        raise AssertionError(
            f"`n_steps * n_envs` must be greater than {what} to normalize advantages. "
            f"Currently n_steps={model.n_steps} and n_envs={n_envs}"
        )
    if not model.critic_full_batch and size % model.batch_size > 0:
        warnings.warn(
            f"The rollout of n_steps * n_envs = {size} samples is not a multiple of "
            f"batch_size={model.batch_size}: in every pass of the critic there will be a truncated "
            f"mini-batch of size {size % model.batch_size}",
            stacklevel=3,
        )


def _normalized(advantages: Tensor, part: Part) -> Tensor:
    """Advantages with mean zero and unit standard deviation over the samples of all ranks."""
    if world().size == 1:
        return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    mean, variance = part.mean_and_variance(advantages)
    std = (variance * part.n_drawn / (part.n_drawn - 1)).sqrt()
    return (advantages - mean.float()) / (std.float() + 1e-8)


def _explained_variance(values: Array, returns: Array) -> float:
    """Fraction of the returns' variance that the values explain, over the samples of all ranks."""
    if world().size == 1:
        return float(explained_variance(values.flatten(), returns.flatten()))
    part = Part(share=1 / world().size)
    _, unexplained = part.mean_and_variance(torch.from_numpy(returns - values).flatten())
    _, variance = part.mean_and_variance(torch.from_numpy(returns).flatten())
    return float(1 - unexplained / variance) if variance > 0 else math.nan


def _obstacle(curvature: float) -> str:
    return (
        f"the KL's curvature is {curvature:.3g} along the step, and must be positive "
        "(dropout and batch normalization in the policy are common causes)"
    )


def _refusal(gradient: Tensor, residual: float, curvature: float) -> str | None:
    """Why the rollout is not usable, or None if it is."""
    if not bool(torch.isfinite(gradient).all()):
        return "the surrogate's gradient is not finite"
    if not math.isfinite(curvature):
        return f"the KL's curvature is {curvature}"
    if not math.isfinite(residual):
        return f"conjugate gradient diverged (squared residual {residual})"
    return None
