"""Chooses how an update and a rollout are computed.

A standard MLP takes the fast path of :mod:`trpo_deploy.train.mlp`. All other policies take
autograd and SB3's rollout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from trpo_deploy.train.mlp import step_numpy
from trpo_deploy.train.mlp.actor import MlpActor
from trpo_deploy.train.mlp.regression import MlpRegression, can_regress
from trpo_deploy.train.mlp.rollout import can_collect, collect_mlp_rollout
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
        supported = (
            is_as_written(buffer, RolloutBuffer, DictRolloutBuffer)
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
    mlp = standard_mlp(model.policy)
    if mlp is not None and can_collect(model):
        return collect_mlp_rollout(model, mlp, env, callback, rollout_buffer, n_rollout_steps)
    return OnPolicyAlgorithm.collect_rollouts(model, env, callback, rollout_buffer, n_rollout_steps)


def path_names(model: OnPolicyAlgorithm) -> tuple[str, str]:
    """Names of the current update path and rollout path, for logs."""
    mlp = standard_mlp(model.policy)
    update = "generic" if mlp is None else "standard MLP"
    if mlp is None or not can_collect(model):
        return update, "Stable-Baselines3"
    return update, "NumPy" if choose_arithmetic(model, mlp) is step_numpy else "compiled"
