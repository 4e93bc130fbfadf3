"""Trust region policy optimisation as a Stable-Baselines3 algorithm."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import (
    GymEnv,
    MaybeCallback,
    RolloutBufferSamples,
    Schedule,
)
from stable_baselines3.common.utils import LinearSchedule, explained_variance
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from torch import Tensor, nn

from trpo_deploy.envs.space_translation import from_canonical, to_canonical
from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.errors import TrainingError
from trpo_deploy.sb3.squashed import check_finite_bounds, squashed
from trpo_deploy.spec.spaces import Array
from trpo_deploy.train.algorithm.critic import CriticFit, fit_critic, of_each
from trpo_deploy.train.algorithm.return_scale import (
    NO_RETURNS,
    ScaledRewards,
    deviation,
    with_returns,
)
from trpo_deploy.train.algorithm.trust_region import (
    KLReduction,
    actor_parameters,
    conjugate_gradient,
    fisher_vector_product,
    flat_gradient,
    line_search,
    mean_kl,
)
from trpo_deploy.train.mlp import step_numpy
from trpo_deploy.train.mlp.actor import MlpActor
from trpo_deploy.train.mlp.critic import MlpRegression, can_regress
from trpo_deploy.train.mlp.network import StandardMlp, standard_mlp
from trpo_deploy.train.mlp.rollout import can_collect, choose_arithmetic, collect_mlp_rollout
from trpo_deploy.train.vec_env.normalizer import (
    check_normalized_spaces,
    copy_statistics,
    restore_statistics,
)
from trpo_deploy.train.vec_env.space_translation import CanonicalEnv, canonical_env

SelfTRPO = TypeVar("SelfTRPO", bound="TRPO")

MAX_REFUSALS = 10
"""So many updates in a row without a usable number, and the run stops."""


@dataclass(frozen=True)
class ActorUpdate:
    """What one policy step did."""

    parameters: list[nn.Parameter]
    """The actor's parameters."""
    surrogate_before: float
    surrogate: float
    expected_gain: float
    """Of the surrogate, by its gradient, for the step that was taken."""
    kl: float
    step: float
    """Fraction of the longest step that the line search accepted; zero if none."""
    cg_residual: float
    """Squared norm of what conjugate gradient left over."""
    refusal: str | None
    """Why no step was possible: a number that is not finite, or no positive curvature."""

    @property
    def accepted(self) -> bool:
        """Whether the policy moved."""
        return self.step > 0


class TRPO(OnPolicyAlgorithm):
    """Trust Region Policy Optimization (https://arxiv.org/abs/1502.05477).

    A drop-in for ``sb3_contrib.TRPO``: the same parameters, defaults, attributes and saved
    files, and the same update given the same rollout and random state.

    Args:
        policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, or a subclass of
            ``ActorCriticPolicy``.
        env: a Gymnasium environment, its id, or a ``VecEnv``.
        learning_rate: of the critic, or its schedule over the remaining progress (1 to 0).
        n_steps: of each environment for an update.
        batch_size: of the critic's mini-batches.
        gamma: discount.
        cg_max_steps: at most so many steps of conjugate gradient.
        cg_damping: added to the Fisher matrix's diagonal.
        line_search_shrinking_factor: between two tries of the line search.
        line_search_max_iter: tries of the line search.
        n_critic_updates: passes of the critic over a rollout.
        gae_lambda: of the generalised advantage estimate.
        use_sde: explore by state-dependent noise (gSDE).
        sde_sample_freq: draw that noise every so many steps; -1 for once a rollout.
        rollout_buffer_class: to use in place of the default one.
        rollout_buffer_kwargs: for its constructor.
        normalize_advantage: to zero mean and unit standard deviation.
        target_kl: the trust region's size. For Box and MultiBinary actions it bounds the mean
            over the action's dimensions, as in ``sb3_contrib``.
        sub_sampling_factor: use every so-manieth sample for the policy step.
        stats_window_size: episodes that the logged means are taken over.
        tensorboard_log: folder, or None for no TensorBoard files.
        policy_kwargs: for the policy's constructor.
        verbose: 0 quiet, 1 information, 2 debug.
        seed: of all random generators.
        device: of the networks.
        _init_setup_model: build the networks at once.
        kl_reduction: how ``target_kl`` counts the action's dimensions: ``"mean"`` as
            ``sb3_contrib`` does, or ``"sum"`` as the paper does.
        target_kl_end: the trust region's size at the end, reached linearly.
        fisher_sub_sampling_factor: take the Fisher matrix from every so-manieth sample, and
            the surrogate from all of them.
        critic_full_batch: each of the ``n_critic_updates`` is one step on the whole rollout.
        scale_returns: the critic learns returns divided by their running standard deviation.
        learning_rate_end: the critic's learning rate at the end, reached linearly.
        critic_max_grad_norm: scale the critic's gradients down to this norm.
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
        env: GymEnv | str,
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
        fisher_sub_sampling_factor: int = 1,
        critic_full_batch: bool = False,
        scale_returns: bool = False,
        learning_rate_end: float | None = None,
        critic_max_grad_norm: float | None = None,
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
        self.fisher_sub_sampling_factor = fisher_sub_sampling_factor
        self.critic_full_batch = critic_full_batch
        self.scale_returns = scale_returns
        self.critic_max_grad_norm = critic_max_grad_norm
        # Where SB3 is given other spaces than the environment has; see canonical.py.
        self.env_observation_space: spaces.Space[Any] | None = None
        self.env_action_space: spaces.Space[Any] | None = None
        if isinstance(self.env, CanonicalEnv):
            self.env_observation_space = self.env.venv.observation_space
            self.env_action_space = self.env.venv.action_space
        self.return_moments = dict(NO_RETURNS)
        self._refusals_in_a_row = 0
        self._n_refusals = 0
        self._running_returns: Array | None = None
        self._statistics_before: dict[str, Any] | None = None
        self._moments_before = self.return_moments
        if self.env is not None:
            _check_rollout_size(self)
        if _init_setup_model:
            self._setup_model()

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        for space in (env.observation_space, env.action_space):
            # SB3 refuses keys within keys by itself, and stumbles over other spaces.
            if not isinstance(space, spaces.Dict):
                space_from_gymnasium(space)
        wrapped = OnPolicyAlgorithm._wrap_env(env, verbose, monitor_wrapper)
        check_normalized_spaces(unwrap_vec_normalize(wrapped))
        return canonical_env(wrapped)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Train in other environments from now on; see ``BaseAlgorithm.set_env``."""
        wrapped = self._wrap_env(env, self.verbose)
        self._check_same_spaces(wrapped)
        super().set_env(wrapped, force_reset)

    def _check_same_spaces(self, env: VecEnv) -> None:
        """What SB3 compares are the spaces that it sees."""
        own = env.venv if isinstance(env, CanonicalEnv) else env
        for name in ("observation_space", "action_space"):
            canonical, own_space = getattr(self, name), getattr(self, f"env_{name}")
            expected = canonical if own_space is None else own_space
            if expected != getattr(own, name):
                what = name.replace("_", " ").capitalize().replace("space", "spaces")
                raise ValueError(f"{what} do not match: {expected} != {getattr(own, name)}")

    def get_env(self) -> VecEnv | None:
        """The environments as they were given, whatever SB3 sees of their spaces."""
        return self.env.venv if isinstance(self.env, CanonicalEnv) else self.env

    def _setup_model(self) -> None:
        if self.env is not None:  # a zip's spaces are here by now, and those of load's env
            self._check_same_spaces(self.env)
        if self.policy_kwargs.get("squash_output"):
            check_finite_bounds(self.action_space)
            if not self.use_sde:
                self.policy_class = squashed(self.policy_class)
        super()._setup_model()
        if self.verbose >= 1:
            print("Update: {}; rollout: {}".format(*self.paths))

    @property
    def paths(self) -> tuple[str, str]:
        """Which update and which rollout the policy takes now, in words."""
        mlp = standard_mlp(self.policy)
        if mlp is None or not can_collect(self):
            return "generic" if mlp is None else "standard MLP", "Stable-Baselines3"
        numpy = choose_arithmetic(self, mlp) is step_numpy
        return "standard MLP", "NumPy" if numpy else "compiled"

    def _excluded_save_params(self) -> list[str]:
        kept_for_a_rollout = ["_running_returns", "_statistics_before", "_moments_before"]
        return [*super()._excluded_save_params(), *kept_for_a_rollout]

    @property
    def current_target_kl(self) -> float:
        """The trust region's size at this point of the run."""
        if self.target_kl_end is None:
            return self.target_kl
        # The last rollout may go beyond the steps asked for.
        done = min(1.0 - self._current_progress_remaining, 1.0)
        return self.target_kl + done * (self.target_kl_end - self.target_kl)

    def dump_logs(self, iteration: int = 0) -> None:
        """Write the log; iterations go on counting where an earlier ``learn`` ended."""
        rollouts = self.num_timesteps // (self.n_steps * self.n_envs)
        super().dump_logs(max(iteration, rollouts))

    def predict(
        self,
        observation: np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]],
        state: tuple[np.ndarray[Any, Any], ...] | None = None,
        episode_start: np.ndarray[Any, Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray[Any, Any], tuple[np.ndarray[Any, Any], ...] | None]:
        """The action for an observation of the environment; see ``BaseAlgorithm.predict``."""
        if self.env_observation_space is not None:
            observation = to_canonical(observation, self.env_observation_space)
        action, state = super().predict(observation, state, episode_start, deterministic)
        if self.env_action_space is not None:
            action = from_canonical(action, self.env_action_space)
        return action, state

    def learn(
        self: SelfTRPO,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "TRPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfTRPO:
        """Train for so many steps; see ``BaseAlgorithm.learn``."""
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
        self._statistics_before = copy_statistics(self.get_vec_normalize_env())
        self._moments_before = self.return_moments
        if self.scale_returns:
            env = self._scaled(env)
        mlp = standard_mlp(self.policy)
        if mlp is not None and can_collect(self):
            complete = collect_mlp_rollout(
                self, mlp, env, callback, rollout_buffer, n_rollout_steps
            )
        else:
            complete = super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        if complete and isinstance(env, ScaledRewards):
            self.return_moments = with_returns(self.return_moments, np.array(env.seen))
            self._running_returns = env.returns
        return complete

    def _scaled(self, env: VecEnv) -> ScaledRewards:
        """The environments with rewards in units of the returns' deviation so far."""
        running = self._running_returns
        if running is None or len(running) != env.num_envs:
            running = np.zeros(env.num_envs)
        assert self._last_episode_starts is not None
        running = np.where(self._last_episode_starts, 0.0, running)
        return ScaledRewards(env, deviation(self.return_moments), self.gamma, running)

    def train(self) -> None:
        """One update from the rollout buffer: a policy step and the critic's regression.

        Raises:
            TrainingError: :data:`MAX_REFUSALS` updates in a row had no usable numbers.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        # Looked up each time: whoever replaces a layer of the policy gets what is there then.
        mlp = standard_mlp(self.policy)
        before = [tensor.detach().clone() for tensor in _tensors(self.policy)]
        rollout = next(self.rollout_buffer.get(batch_size=None))
        regression = self._started_regression(mlp)
        update = self._update_actor(rollout, mlp)
        # A rollout that one of the two cannot use teaches neither of them.
        if update.refusal is not None:
            critic = CriticFit(math.nan, update.refusal)
            if regression is not None:
                regression.drop()
        elif regression is not None:
            critic = regression.commit()
        else:
            critic = fit_critic(
                self.policy, self.rollout_buffer, update.parameters, *self._critic_settings()
            )
        if critic.refusal is not None:
            _put_back(self.policy, before)
        self._n_updates += 1
        self._log(update, critic)
        self._count_refusal(critic.refusal)

    def _critic_settings(self) -> tuple[int, int | None, float | None]:
        """Passes over the rollout, samples of a mini-batch, and the gradient's greatest norm."""
        batch_size = None if self.critic_full_batch else self.batch_size
        return self.n_critic_updates, batch_size, self.critic_max_grad_norm

    def _started_regression(self, mlp: StandardMlp | None) -> MlpRegression | None:
        """The regression on the rollout's returns, beside the policy step, where that is possible.

        Else the critic may share parameters with the actor, which the policy step finds.
        """
        # A buffer of the user's may give its samples otherwise.
        if mlp is None or type(self.rollout_buffer) is not RolloutBuffer:
            return None
        if self.n_critic_updates < 1:  # ONNX's Scan takes no empty sequence
            return None
        if not can_regress(self.policy.optimizer, mlp.critic.parameters):
            return None
        return MlpRegression(self.policy, mlp.critic, self.rollout_buffer, *self._critic_settings())

    def _update_actor(
        self, rollout: RolloutBufferSamples, mlp: StandardMlp | None = None
    ) -> ActorUpdate:
        """The policy step of eq. 14 of the paper, on the whole rollout."""
        samples = _every(rollout, self.sub_sampling_factor)
        actions, advantages = samples.actions, samples.advantages
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()  # the buffer keeps all actions as floats
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

        actor = None if mlp is None else MlpActor(self.policy, mlp, samples.observations)
        distribution = (
            partial(self.policy.get_distribution, samples.observations)
            if actor is None
            else actor.distribution
        )
        with torch.no_grad():
            # The policy reuses one distribution object, so keep a copy of the old one.
            old = copy.copy(distribution())

        def surrogate_and_kl() -> tuple[Tensor, Tensor]:
            new = distribution()
            ratio = torch.exp(new.log_prob(actions) - samples.old_log_prob)
            return (advantages * ratio).mean(), mean_kl(new, old, self.kl_reduction)

        surrogate, kl = surrogate_and_kl()
        if mlp is None or actor is None:
            parameters, product = self._fisher_vector_product(samples.observations, old, kl)
            gradient = flat_gradient(surrogate, parameters, keep_graph=True)
        else:
            parameters, gradient = actor.parameters, actor.gradient(surrogate)
            product = self._mlp_fisher_vector_product(mlp, samples.observations, old, actor)
        direction, curvature, residual = conjugate_gradient(product, gradient, self.cg_max_steps)
        before = float(surrogate.detach())
        refusal = _refusal(gradient, residual, curvature)
        if refusal is not None:
            return ActorUpdate(parameters, before, before, 0.0, 0.0, 0.0, residual, refusal)

        longest = math.sqrt(2 * self.current_target_kl / curvature)
        found = line_search(
            parameters,
            longest * direction,
            surrogate_and_kl,
            surrogate.detach(),
            self.current_target_kl,
            self.line_search_shrinking_factor,
            self.line_search_max_iter,
        )
        gain = found.step * longest * float(gradient.dot(direction))
        return ActorUpdate(
            parameters, before, found.surrogate, gain, found.kl, found.step, residual, None
        )

    def _fisher_vector_product(
        self, observations: Any, old: Distribution, kl: Tensor
    ) -> tuple[list[nn.Parameter], Callable[[Tensor], Tensor]]:
        """The actor's parameters, and ``v -> (F + damping I) v`` at the old policy.

        Args:
            observations: of the samples of the surrogate.
            old: the old policy's distribution over them.
            kl: of the policy to itself over them, with its graph.
        """
        if self.fisher_sub_sampling_factor > 1:
            observations = _every_row(observations, self.fisher_sub_sampling_factor)
            with torch.no_grad():
                old = copy.copy(self.policy.get_distribution(observations))
            kl = mean_kl(self.policy.get_distribution(observations), old, self.kl_reduction)
        parameters, kl_gradient = actor_parameters(kl, self.policy)
        return parameters, fisher_vector_product(kl_gradient, parameters, self.cg_damping)

    def _mlp_fisher_vector_product(
        self, mlp: StandardMlp, observations: Tensor, old: Distribution, actor: MlpActor
    ) -> Callable[[Tensor], Tensor]:
        """The same for a policy whose derivatives are written out."""
        if self.fisher_sub_sampling_factor > 1:
            observations = _every_row(observations, self.fisher_sub_sampling_factor)
            actor = MlpActor(self.policy, mlp, observations)
            old = copy.copy(actor.distribution())
        return actor.fisher_vector_product(old, self.kl_reduction, self.cg_damping)

    def _log(self, update: ActorUpdate, critic: CriticFit) -> None:
        values, returns = self.rollout_buffer.values, self.rollout_buffer.returns
        record = self.logger.record
        record("train/policy_objective", update.surrogate)
        record("train/value_loss", critic.loss)
        record("train/kl_divergence_loss", update.kl)
        record("train/kl_true", update.kl * self._kl_dimensions())
        record("train/explained_variance", explained_variance(values.flatten(), returns.flatten()))
        record("train/is_line_search_success", float(update.accepted))
        record("train/line_search_step", update.step)
        record("train/surrogate_gain", update.surrogate - update.surrogate_before)
        record("train/surrogate_gain_expected", update.expected_gain)
        record("train/cg_residual", update.cg_residual)
        if hasattr(self.policy, "log_std"):
            record("train/std", torch.exp(self.policy.log_std).mean().item())
        record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _kl_dimensions(self) -> int:
        """How many times the mean over action dimensions goes into the true KL."""
        averaged = isinstance(self.action_space, (spaces.Box, spaces.MultiBinary))
        if self.kl_reduction == "sum" or not averaged:
            return 1
        return get_action_dim(self.action_space)

    def _count_refusal(self, refusal: str | None) -> None:
        if refusal is None:
            self._refusals_in_a_row = 0
            return
        # What the refused rollout did to the running statistics is taken back as well.
        restore_statistics(self.get_vec_normalize_env(), self._statistics_before)
        self.return_moments, self._running_returns = self._moments_before, None
        self._n_refusals += 1
        self._refusals_in_a_row += 1
        self.logger.record("train/refused_updates", self._n_refusals)
        self.logger.record("train/refusal", refusal, exclude="tensorboard")
        if self._refusals_in_a_row >= MAX_REFUSALS:
            raise TrainingError(
                f"{MAX_REFUSALS} updates in a row were refused, the last for: {refusal}; look at "
                "the rewards and observations for NaN and extremes, or lower the learning rate"
            )


def _check_rollout_size(model: TRPO) -> None:
    size, factor = model.n_steps * model.n_envs, max(model.sub_sampling_factor, 1)
    if model.normalize_advantage and size <= factor:
        # The type that SB3 and sb3-contrib have here; their users catch it.
        what = "1" if factor == 1 else f"sub_sampling_factor={factor}"
        raise AssertionError(
            f"`n_steps * n_envs` must be greater than {what} to normalise advantages. "
            f"Currently n_steps={model.n_steps} and n_envs={model.n_envs}"
        )
    if not model.critic_full_batch and size % model.batch_size > 0:
        warnings.warn(
            f"The rollout of n_steps * n_envs = {size} samples is not a multiple of "
            f"batch_size={model.batch_size}: every pass of the critic ends with a mini-batch of "
            f"{size % model.batch_size}",
            stacklevel=3,
        )


def _every(rollout: RolloutBufferSamples, factor: int) -> RolloutBufferSamples:
    """Every ``factor``-th sample; all of them for zero too, as in sb3-contrib."""
    if factor <= 1:
        return rollout
    return RolloutBufferSamples(*(_every_row(column, factor) for column in rollout))


def _every_row(column: Any, factor: int) -> Any:
    return of_each(itemgetter(slice(None, None, factor)), column)


@torch.no_grad()
def _put_back(policy: ActorCriticPolicy, values: list[Tensor]) -> None:
    for tensor, value in zip(_tensors(policy), values, strict=True):
        tensor.copy_(value)


def _tensors(policy: ActorCriticPolicy) -> Iterable[Tensor]:
    """Parameters, and what layers keep beside them, as running statistics."""
    return chain(policy.parameters(), policy.buffers())


def _refusal(gradient: Tensor, residual: float, curvature: float) -> str | None:
    """Why no step can be taken, or None if one can."""
    if not bool(torch.isfinite(gradient).all()):
        return "the surrogate's gradient is not finite"
    if not math.isfinite(residual) or not (math.isfinite(curvature) and curvature > 0):
        return f"the KL has no positive finite curvature along the step ({curvature})"
    return None
