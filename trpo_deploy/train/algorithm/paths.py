"""Chooses how an update and a rollout are computed.

A standard MLP takes the fast path of :mod:`trpo_deploy.train.mlp`. All other policies take
autograd. Their rollout is unrolled too if they compute by SB3's methods, and else SB3's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from trpo_deploy.train.algorithm.over_ranks import OverRanks
from trpo_deploy.train.distributed.world import world
from trpo_deploy.train.mlp import step_numpy
from trpo_deploy.train.mlp.actor import MlpActor
from trpo_deploy.train.mlp.regression import MlpRegression, can_regress
from trpo_deploy.train.mlp.rollout import can_collect, collect_unrolled, start_rollout
from trpo_deploy.train.mlp.rollout_observations import has_flat_features
from trpo_deploy.train.mlp.standard_mlp import StandardMlp, standard_mlp
from trpo_deploy.train.mlp.step_arithmetic import choose_arithmetic
from trpo_deploy.train.update.actor import Actor
from trpo_deploy.train.update.as_written import is_as_written
from trpo_deploy.train.update.autograd_actor import AutogradActor
from trpo_deploy.train.update.autograd_regression import AutogradRegression
from trpo_deploy.train.update.regression import Regression, RegressionSettings


class UpdatePath(Protocol):
    """Makes the actor and the critic's regression of an update."""

    def actor(self, observations: Any) -> Actor:
        """The actor over a batch of observations."""
        ...

    def regression(
        self, actor: Actor, buffer: RolloutBuffer, settings: RegressionSettings
    ) -> Regression:
        """The critic's regression on a rollout's returns."""
        ...


@dataclass(frozen=True)
class AutogradPath:
    """Update of any policy."""

    policy: ActorCriticPolicy

    def actor(self, observations: Any) -> Actor:
        """The actor over a batch of observations."""
        return AutogradActor(self.policy, observations)

    def regression(
        self, actor: Actor, buffer: RolloutBuffer, settings: RegressionSettings
    ) -> Regression:
        """The critic's regression; it runs after the policy step."""
        return AutogradRegression(self.policy, actor, buffer, settings)


@dataclass(frozen=True)
class MlpPath:
    """Update of a standard MLP, with derivatives written out."""

    policy: ActorCriticPolicy
    mlp: StandardMlp

    def actor(self, observations: Any) -> Actor:
        """The actor over a batch of observations."""
        return MlpActor(self.policy, self.mlp, observations)

    def regression(
        self, actor: Actor, buffer: RolloutBuffer, settings: RegressionSettings
    ) -> Regression:
        """The critic's regression; it runs during the policy step if the graph supports it."""
        # Splitting a large batch over the ranks saves more time than the graph does.
        is_split = world().size > 1 and settings.batch_size is None
        supported = (
            not is_split
            and is_as_written(buffer, RolloutBuffer, DictRolloutBuffer)
            and settings.n_updates > 0  # ONNX's Scan needs a non-empty sequence
            and can_regress(self.policy.optimizer, self.mlp.critic.parameters)
        )
        if supported:
            return MlpRegression(self.policy, self.mlp.critic, buffer, settings)
        return AutogradRegression(self.policy, actor, buffer, settings)


def update_path(policy: ActorCriticPolicy) -> UpdatePath:
    """The path of the next update; it may change when a layer of the policy is replaced."""
    mlp = standard_mlp(policy)
    return AutogradPath(policy) if mlp is None else MlpPath(policy, mlp)


def collect_rollout(
    model: OnPolicyAlgorithm,
    env: VecEnv,
    callback: BaseCallback,
    rollout_buffer: RolloutBuffer,
    n_rollout_steps: int,
) -> bool:
    """Fill the buffer by the fastest path; see ``OnPolicyAlgorithm.collect_rollouts``."""
    if world().size == 1:
        return _collect(model, env, callback, rollout_buffer, n_rollout_steps)
    shared = OverRanks(model, callback)
    complete = _collect(model, env, shared, rollout_buffer, n_rollout_steps)
    if shared.stopped:
        rollout_buffer.reset()  # as a rollout that was stopped in the middle
    return complete and not shared.stopped


def _collect(
    model: OnPolicyAlgorithm,
    env: VecEnv,
    callback: BaseCallback,
    rollout_buffer: RolloutBuffer,
    n_rollout_steps: int,
) -> bool:
    if can_collect(model, rollout_buffer, n_rollout_steps):
        start_rollout(model, env, callback, rollout_buffer)
        # The callback may have changed what is asked here.
        if can_collect(model, rollout_buffer, n_rollout_steps):
            mlp = rollout_mlp(model)
            return collect_unrolled(model, mlp, env, callback, rollout_buffer, n_rollout_steps)
        callback = _Started(model, callback)
    return OnPolicyAlgorithm.collect_rollouts(model, env, callback, rollout_buffer, n_rollout_steps)


class _Started(BaseCallback):
    """A callback for a rollout whose start it has seen: SB3's rollout would announce it again.

    Args:
        model: The algorithm.
        callback: The callback.
    """

    def __init__(self, model: OnPolicyAlgorithm, callback: BaseCallback) -> None:
        super().__init__()
        self.model = model
        self._callback = callback

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        """Pass the variables of the rollout on."""
        self._callback.update_locals(locals_)

    def _on_step(self) -> bool:
        return self._callback.on_step()

    def _on_rollout_end(self) -> None:
        self._callback.on_rollout_end()


def rollout_mlp(model: OnPolicyAlgorithm) -> StandardMlp | None:
    """The policy as a standard MLP, or None if a rollout has to run its modules."""
    return standard_mlp(model.policy) if has_flat_features(model.observation_space) else None


def path_names(model: OnPolicyAlgorithm) -> tuple[str, str]:
    """Names of the current update path and rollout path, for logs."""
    update = "generic" if standard_mlp(model.policy) is None else "standard MLP"
    mlp, buffer = rollout_mlp(model), model.rollout_buffer
    if not can_collect(model, buffer, buffer.buffer_size):
        return update, "Stable-Baselines3"
    if mlp is None:
        return update, "unrolled modules"
    return update, "NumPy" if choose_arithmetic(model, mlp) is step_numpy else "compiled"
