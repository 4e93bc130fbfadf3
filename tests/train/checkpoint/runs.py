"""Short runs, interrupted runs, and the comparison of two runs."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import pytest
import torch

from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.train import TRPO, TrainConfig, load_config, train
from trpo_deploy.train.checkpoint.checkpoint import Checkpoint, read_checkpoint


class Interruption(BaseException):
    """Like Ctrl-C, but not caught by pytest."""


def short_config(env_id: str, *settings: str, steps: int = 1536, **flags: Any) -> TrainConfig:
    """A run of a few updates, with a checkpoint before each of them."""
    return load_config(
        env_id,
        settings=["n_steps=128", "batch_size=64", "checkpoint_every=256", *settings],
        n_timesteps=steps,
        **{"eval_every": 512, "eval_episodes": 2, **flags},
    )


def train_interrupted(config: TrainConfig, folder: ModelDir, update: int) -> None:
    """Train up to the middle of an update: the actor has changed, the critic has not."""
    update_actor = TRPO.policy_step
    updates = 0

    def interrupt(*arguments: Any) -> Any:
        nonlocal updates
        updates += 1
        done = update_actor(*arguments)
        if updates == update:
            raise Interruption
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TRPO, "policy_step", interrupt)
        with pytest.raises(Interruption):
            train(config, folder)


def checkpoint_of(folder: ModelDir) -> Checkpoint:
    checkpoint = read_checkpoint(folder)
    assert checkpoint is not None
    return checkpoint


def log_of(folder: ModelDir) -> list[dict[str, str]]:
    with folder.progress.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Wall-clock time differs between two runs, and so does all that is derived from it.
    clocks = ("fps", "elapsed")
    return [{k: v for k, v in row.items() if not k.endswith(clocks) and v} for row in rows]


def assert_same_run(one: ModelDir, other: ModelDir) -> None:
    first, second = checkpoint_of(one), checkpoint_of(other)
    assert first.timesteps == second.timesteps
    torch.testing.assert_close(first.learner, second.learner, rtol=0, atol=0)
    for name in ("last_obs", "last_episode_starts", "last_original_obs"):
        np.testing.assert_equal(first.rollout[name], second.rollout[name])
    assert log_of(one) == log_of(other)
    with np.load(one.evaluations) as ours, np.load(other.evaluations) as theirs:
        for name in ours.files:
            np.testing.assert_array_equal(ours[name], theirs[name])
    for pair in ((one, other), (one.best, other.best)):
        ours_, theirs_ = (read_policy_zip(each.policy_zip).build_policy() for each in pair)
        torch.testing.assert_close(ours_.state_dict(), theirs_.state_dict(), rtol=0, atol=0)
    assert one.learning_curve.read_bytes() == other.learning_curve.read_bytes()


def contents(folder: ModelDir) -> dict[str, bytes]:
    """All files of a folder by path."""
    return {str(path): path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
