"""The state of a run's other ranks, in the checkpoint of rank 0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trpo_deploy.errors import ConfigError
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.checkpoint.checkpoint import Checkpoint
from trpo_deploy.train.checkpoint.learner_state import restore_learner
from trpo_deploy.train.checkpoint.rollout_state import (
    restore_randomness,
    restore_rollout,
    rollout_state,
)
from trpo_deploy.train.codec import decode, encode
from trpo_deploy.train.distributed.world import world
from trpo_deploy.train.mlp.noise import reset_noise

_OTHERS = "other_ranks"
"""Key in :attr:`Checkpoint.rollout`: the states of rank 1 and on. Older checkpoints lack it."""


def rollout_of_all_ranks(model: TRPO) -> dict[str, Any]:
    """State of this rank's rollout; on rank 0 with that of the others.

    All ranks call it at the same time.
    """
    own = rollout_state(model)
    if world().size == 1:
        return own
    normalizer = model.get_vec_normalize_env()
    returns = None if normalizer is None else normalizer.returns
    whole = {"rollout": own, "returns": returns, "running_returns": model.running_returns}
    return own | {_OTHERS: world().gather_bytes(encode(whole) if world().rank else b"")}


def check_same_world(checkpoint: Checkpoint) -> None:
    """Check that a run resumes with as many ranks as it had.

    Raises:
        ConfigError: With both numbers.
    """
    before, now = len(checkpoint.rollout.get(_OTHERS, ())) + 1, world().size
    if before != now:
        start = f"start {before} ranks with torchrun" if before > 1 else "start it without torchrun"
        raise ConfigError(
            f"the number of ranks was {before} in the run to resume, not {now}: {start}"
        )


def of_this_rank(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the state of this rank's environments in place of rank 0's."""
    rank = world().rank
    if rank == 0:
        return checkpoint
    state = decode(checkpoint.rollout[_OTHERS][rank - 1])
    learner = {**checkpoint.learner, "running_returns": state["running_returns"]}
    if learner["normalizer"] is not None:
        learner["normalizer"] = {**learner["normalizer"], "returns": state["returns"]}
    return replace(checkpoint, learner=learner, rollout=state["rollout"])


def restore(model: TRPO, checkpoint: Checkpoint) -> bool:
    """Put a model into the state of a checkpoint, before its first rollout.

    Returns:
        False if the environments start new episodes.
    """
    restore_learner(model, checkpoint.learner)
    return restore_rollout(model, checkpoint.rollout)


def restore_noise(model: TRPO, checkpoint: Checkpoint) -> None:
    """Restore the random generators and gSDE's noise, at the start of the first rollout.

    SB3 draws gSDE's noise before it calls the callbacks, in the first run as well.
    """
    restore_randomness(model, checkpoint.rollout)
    if checkpoint.finished and model.use_sde:
        reset_noise(model.policy, model.n_envs)
