"""Environments stepped one after another, with fewer copies than in SB3."""

from __future__ import annotations

from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from trpo_deploy.train.mlp.dummy_step import step_and_reset


class SyncVecEnv(DummyVecEnv):
    """``DummyVecEnv`` that copies only what it reuses.

    ``DummyVecEnv`` deep-copies all infos and observations in each step. Here an info is passed on
    as the environment returns it, and observations are copied once, into the batch. Batches that
    were returned do not change.
    """

    def step_wait(self) -> VecEnvStepReturn:
        """Step each environment and reset those whose episodes ended."""
        return step_and_reset(self, lambda info: info)
