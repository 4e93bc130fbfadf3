"""A run with several ranks: what rank 0 tells the others, and what the others do.

Rank 0 runs :func:`~trpo_deploy.train.run.trainer.train`: it alone has callbacks, logs, evaluations
and files. The others run :func:`follow`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

import trpo_deploy
from trpo_deploy.errors import ConfigError
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.checkpoint.checkpoint import Checkpoint, load_checkpoint
from trpo_deploy.train.checkpoint.learner_state import learner_state, restore_learner
from trpo_deploy.train.checkpoint.rank_state import (
    of_this_rank,
    restore,
    restore_noise,
    rollout_of_all_ranks,
)
from trpo_deploy.train.codec import decode, encode
from trpo_deploy.train.config.differences import different_settings
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.distributed.randomness import set_shared_generators, shared_generators
from trpo_deploy.train.distributed.world import world
from trpo_deploy.train.run.environments import make_training_env
from trpo_deploy.train.run.model import check_device, make_model
from trpo_deploy.train.vec_env.make import closed_after


def follow(config: TrainConfig) -> None:
    """Train as one of the ranks other than 0: collect rollouts and compute updates.

    Args:
        config: What to train, the same as on rank 0.

    Raises:
        TrpoDeployError: As :func:`~trpo_deploy.train.run.trainer.train`.
    """
    torch.set_num_threads(1)
    check_device(config.device)
    check_same_run(config)
    with closed_after(make_training_env(config)) as env:
        model = make_model(config, env)
        checkpoint = _receive_start(model)
        model.set_logger(Logger(folder=None, output_formats=[]))
        remaining = config.n_timesteps - model.num_timesteps
        model.learn(remaining, callback=_Follower(checkpoint), reset_num_timesteps=False)
    end_together()


def check_same_run(config: TrainConfig) -> None:
    """Check that all ranks train the same run, and that they can share its environments.

    Raises:
        ConfigError: With what differs, the same on all ranks.
    """
    ranks = world()
    others = ranks.gather_bytes(encode({"config": config.to_dict(), "versions": versions()}))
    states = [decode(each) for each in others]
    problems = (difference(rank, state, config) for rank, state in enumerate(states, start=1))
    problem = ranks.broadcast_bytes(next(filter(None, problems), "").encode()).decode()
    if problem:
        raise ConfigError(problem)
    if config.n_envs % ranks.size:
        raise ConfigError(
            f"n_envs={config.n_envs} cannot be split evenly over {ranks.size} ranks: set "
            f"--n-envs to a multiple of {ranks.size}, or start another number of ranks"
        )


def difference(rank: int, state: dict[str, Any], config: TrainConfig) -> str:
    """How another rank differs from this one; empty if it does not."""
    for name, ours in versions().items():
        theirs = state["versions"].get(name)
        if theirs != ours:
            return f"rank 0 has {name} {ours}, rank {rank} has {theirs}: install one version"
    for name, theirs, ours in different_settings(state["config"], config):
        return (
            f"rank 0 has {name}={ours!r}, rank {rank} has {theirs!r}: start all ranks with the "
            "same command, and with the same files of presets and runs"
        )
    return ""


def versions() -> dict[str, str]:
    """Versions of the packages that a training depends on."""
    packages = ("gymnasium", "numpy", "stable-baselines3", "torch")
    return {"trpo-deploy": trpo_deploy.__version__, **{name: version(name) for name in packages}}


def send_start(model: TRPO, checkpoint: Checkpoint | None) -> None:
    """Give the other ranks the state that rank 0 starts from.

    They read no files: a checkpoint or an initial policy may be on the disk of rank 0 only.
    """
    if world().size > 1:
        start = {
            "checkpoint": None if checkpoint is None else checkpoint.dump(),
            "learner": learner_state(model),
            "generators": shared_generators(),
        }
        world().broadcast_bytes(encode(start))


def end_together() -> None:
    """Wait until rank 0 has written its files; it may fail there."""
    world().broadcast_bytes()


def _receive_start(model: TRPO) -> Checkpoint | None:
    start = decode(world().broadcast_bytes())
    restore_learner(model, start["learner"])
    set_shared_generators(start["generators"])
    data = start["checkpoint"]
    return None if data is None else of_this_rank(load_checkpoint(data))


class _Follower(BaseCallback):
    """Gives rank 0 the state for its checkpoints, at the same points of the run.

    See :class:`~trpo_deploy.train.run.callbacks.checkpoint.CheckpointCallback`.

    Args:
        resumed: Checkpoint to resume from, or None.
    """

    model: TRPO

    def __init__(self, resumed: Checkpoint | None) -> None:
        super().__init__()
        self._resumed = resumed

    def _on_training_start(self) -> None:
        if self._resumed is not None:
            restore(self.model, self._resumed)

    def _on_rollout_start(self) -> None:
        if self._resumed is not None:
            restore_noise(self.model, self._resumed)
            self._resumed = None
        rollout_of_all_ranks(self.model)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        if self.model.rollout_buffer.full:
            rollout_of_all_ranks(self.model)
