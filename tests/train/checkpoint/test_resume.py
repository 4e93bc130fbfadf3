"""A resumed run equals a run that was not interrupted."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.train.checkpoint.runs import (
    assert_same_run,
    checkpoint_of,
    log_of,
    short_config,
    train_interrupted,
)
from tests.train.environments import RandomEnv
from tests.train.registration import register
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.train import Reports, load_config, train

pytestmark = pytest.mark.usefixtures("undrawn_curves")

FORMAT_1 = Path(__file__).parents[2] / "fixtures" / "format-1"
"""A run, its files and its checkpoint as version 0.1.0 writes them."""
CNN = ("policy=CnnPolicy", "n_steps=32", "batch_size=32", "cg_max_steps=3", "n_critic_updates=2")


@pytest.mark.parametrize(
    ("env_id", "settings", "flags"),
    [
        ("CartPole-v1", (), {}),
        ("CartPole-v1", ("normalize=true", "gamma_end=0.9"), {}),
        ("CartPole-v1", ("learning_rate=lin_0.002", "scale_returns=true"), {"vec_env": "subproc"}),
        ("Pendulum-v1", ("normalize=true",), {}),  # with gSDE, in the middle of episodes
        ("Pendulum-v1", ("use_sde=true", "sde_sample_freq=-1", "gae_lambda_end=0.5"), {}),
        ("HalfCheetah-v5", (), {"eval_every": 1024, "eval_episodes": 1}),  # of 1,000 steps
        ("Keys-v0", ("policy=MultiInputPolicy", "normalize={norm_obs_keys: [speed]}"), {}),
        ("Pictures-v0", CNN, {"steps": 192}),
        ("Grey-v0", CNN, {"steps": 192}),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    env_id: str, settings: tuple[str, ...], flags: dict[str, Any], tmp_path: Path
) -> None:
    if env_id == "HalfCheetah-v5":
        pytest.importorskip("mujoco")
    config = short_config(env_id, *settings, **flags)
    whole, parts = ModelDir(tmp_path / "whole"), ModelDir(tmp_path / "parts")
    train(config, whole)
    train_interrupted(config, parts, update=4)
    random.seed()  # global generators change between the two runs
    np.random.seed()
    torch.seed()
    train(config, parts, resume=True)
    assert_same_run(whole, parts)


class Keys(RandomEnv):
    """Dict observations, and Discrete spaces with a start, which SB3 sees shifted."""

    def __init__(self) -> None:
        keys = {"speed": spaces.Box(-1, 1, (2,)), "lamp": spaces.Discrete(3, start=1)}
        super().__init__(spaces.Discrete(2, start=5), spaces.Dict(keys))


class Pictures(RandomEnv):
    """Images with the channels last, which SB3 transposes."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__(spaces.Discrete(2), spaces.Box(0, 255, (36, 36, channels), np.uint8))


register("Keys-v0", Keys)
register("Pictures-v0", Pictures)
register("Grey-v0", Pictures, channels=1)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_finished_run_can_be_extended(env_id: str, tmp_path: Path) -> None:
    # Not CartPole's schedules: with them the length changes the run from its first step.
    settings = ("learning_rate=0.002", "target_kl_end=null")
    whole, parts = ModelDir(tmp_path / "whole"), ModelDir(tmp_path / "parts")
    train(short_config(env_id, *settings, steps=1536), whole)
    train(short_config(env_id, *settings, steps=768), parts)
    train(short_config(env_id, *settings, steps=1536), parts, resume=True)
    torch.testing.assert_close(
        checkpoint_of(whole).learner, checkpoint_of(parts).learner, rtol=0, atol=0
    )


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "m")
    config = short_config("CartPole-v1", steps=512)
    first = train(config, folder)
    before = log_of(folder)
    again = train(config, folder, resume=True)
    assert (again.timesteps, again.last, again.best) == (512, first.last, first.best)
    assert log_of(folder) == before


def test_an_interrupted_update_is_undone_in_the_saved_policy(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "m")
    train_interrupted(short_config("CartPole-v1", "normalize=true"), folder, update=3)
    checkpoint = checkpoint_of(folder)
    assert checkpoint.timesteps == 512
    policy = read_policy_zip(folder.policy_zip)
    assert policy.num_timesteps == 512
    kept = checkpoint.learner["policy"]
    torch.testing.assert_close(dict(policy.build_policy().state_dict()), kept, rtol=0, atol=0)


class Opaque(RandomEnv):
    """Has an attribute whose state is hidden."""

    def __init__(self) -> None:
        super().__init__(spaces.Discrete(2))
        self.world = object()


def test_an_environment_with_hidden_state_starts_new_episodes(tmp_path: Path) -> None:
    register("Opaque-v0", Opaque)
    folder, notes = ModelDir(tmp_path / "m"), list[str]()
    config = short_config("Opaque-v0", "normalize=true")
    train_interrupted(config, folder, update=4)
    result = train(config, folder, resume=True, reports=Reports(note=notes.append))
    assert result.timesteps == 1536
    assert len(notes) == 1
    assert "the state of Opaque-v0 cannot be saved" in notes[0]


def test_a_checkpoint_of_an_earlier_version_resumes(tmp_path: Path) -> None:
    folder, notes = ModelDir(tmp_path / "m"), list[str]()
    shutil.copytree(FORMAT_1, folder.root)
    config = load_config("Pendulum-v1", preset=str(folder.config), n_timesteps=2048)
    result = train(config, folder, resume=True, reports=Reports(note=notes.append))
    assert result.timesteps == 2048
    assert notes == []
    with np.load(folder.evaluations) as now, np.load(FORMAT_1 / "evaluations.npz") as before:
        assert now["timesteps"].tolist() == [512, 1024, 1536, 2048]
        np.testing.assert_array_equal(now["results"][:2], before["results"])
