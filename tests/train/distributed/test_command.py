"""``trpo-deploy train`` in several ranks: they end together, with one clear line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.command import Run
from tests.train.checkpoint.runs import checkpoint_of, log_of
from tests.train.distributed.processes import run_command, start_ranks
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train import load_config
from trpo_deploy.train.run.ranks import difference, versions

MODULE = "tests.train.distributed.environments"
SETTINGS = [
    *("--set", "n_steps=16", "--set", "batch_size=32", "--set", "n_critic_updates=2"),
    *("--set", "cg_max_steps=3", "--n-envs", "2", "-n", "96", "--no-export"),
    *("--eval-every", "64", "--eval-episodes", "1", "--checkpoint-every", "32"),
]
"""Three updates, with an evaluation before the third."""


def run_ranks(
    folder: Path,
    *options: str,
    env: str = "Small-v0",
    of_rank_1: tuple[str, ...] = (),
    size: int = 2,
    variables: Mapping[str, str] | None = None,
) -> list[Run]:
    """Train with two ranks into ``folder/run``."""
    command = ("train", f"{MODULE}:{env}", "-o", folder / "run", *SETTINGS, *options)
    arguments = [command, (*command, *of_rank_1), *[command] * (size - 2)][:size]
    ranks = start_ranks(folder / "ranks", run_command, arguments, variables)
    return [rank.wait() for rank in ranks]


def assert_one_line(runs: list[Run], *says: str) -> None:
    """All ranks end with code 1, and one of them prints one line."""
    assert [run.code for run in runs] == [1] * len(runs), runs
    lines = [line for run in runs for line in run.error.splitlines()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: "), lines
    for text in says:
        assert text in lines[0]


def test_rank_0_prints_and_writes_and_the_others_are_silent(tmp_path: Path) -> None:
    runs = run_ranks(tmp_path)
    assert [run.code for run in runs] == [0, 0], runs
    assert "evaluation at        96 steps" in runs[0].output
    assert "trained 96 steps" in runs[0].output
    assert not runs[0].error
    assert (runs[1].output, runs[1].error) == ("", "")
    assert checkpoint_of(ModelDir(tmp_path / "run")).timesteps == 96


@pytest.mark.parametrize("unrolled", ["true", "false"])
def test_ranks_with_unequal_episodes_and_own_generators_agree(
    unrolled: str, tmp_path: Path
) -> None:
    """Both rollouts: ours, and Stable-Baselines3's, which draws in each rank's own generator."""
    options = ("--set", f"unrolled={unrolled}", "--set", "use_sde=true")
    runs = run_ranks(tmp_path, *options, env="Unequal-v0")
    assert [run.code for run in runs] == [0, 0], runs
    assert checkpoint_of(ModelDir(tmp_path / "run")).timesteps == 96
    buffers = checkpoint_of(ModelDir(tmp_path / "run")).rollout["buffers"]
    lengths = [episode["l"] for episode in buffers["ep_info_buffer"]]
    assert lengths.count(7) > 3, "rank 0 logs no episodes of rank 1, which has 7 steps at most"
    assert max(lengths) > 7


def test_an_environment_that_fails_in_one_rank_ends_all(tmp_path: Path) -> None:
    runs = run_ranks(tmp_path, env="FailingRank-v0")
    assert_one_line(runs, "rank 1: ", "environment 1 of 2", "the motor is hot")
    # Rank 0 has written the state before that rollout.
    assert checkpoint_of(ModelDir(tmp_path / "run")).timesteps == 32


def test_a_callback_of_rank_0_stops_all_ranks(tmp_path: Path) -> None:
    runs = run_ranks(tmp_path, "--callback", f"{MODULE}:StopAt: {{steps: 70}}")
    assert [run.code for run in runs] == [0, 0], runs
    assert "stopped by a callback" in runs[0].output
    # As in one process, the rollout in which it stopped does not count.
    assert checkpoint_of(ModelDir(tmp_path / "run")).timesteps == 64


def test_a_callback_that_stops_in_the_first_rollout_ends_all_ranks(tmp_path: Path) -> None:
    runs = run_ranks(tmp_path, "--callback", f"{MODULE}:StopAt: {{steps: 1}}")
    assert_one_line(runs, "first rollout", "no trained policy")


def test_a_callback_that_fails_ends_all_ranks(tmp_path: Path) -> None:
    runs = run_ranks(tmp_path, "--callback", f"{MODULE}:Fail")
    assert_one_line(runs, "callback", "no room")
    assert "rank" not in runs[0].error


def test_environments_that_cannot_be_split_are_refused(tmp_path: Path) -> None:
    runs = run_ranks(tmp_path, "--n-envs", "3")
    assert_one_line(runs, "n_envs=3", "2 ranks", "multiple of 2")
    assert not (tmp_path / "run").exists()


def test_ranks_with_other_settings_are_refused(tmp_path: Path) -> None:
    runs = run_ranks(tmp_path, of_rank_1=("--set", "gamma=0.9"))
    assert_one_line(runs, "gamma=0.99", "rank 1 has 0.9")
    assert not (tmp_path / "run").exists()


def test_ranks_with_other_versions_are_refused() -> None:
    config = load_config("CartPole-v1")
    state = {"config": config.to_dict(), "versions": {**versions(), "torch": "2.3.0"}}
    assert "rank 3 has 2.3.0" in difference(3, state, config)
    assert not difference(3, {**state, "versions": versions()}, config)


def test_a_time_limit_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    runs = run_ranks(tmp_path, variables={"TRPO_DEPLOY_RANK_TIMEOUT": "soon"})
    assert_one_line(runs, "TRPO_DEPLOY_RANK_TIMEOUT='soon'")


def test_a_restart_does_not_resume_the_run_of_another_start(tmp_path: Path) -> None:
    """torchrun repeats a command that was refused because the folder holds an older run."""
    first = {"TORCHELASTIC_RUN_ID": "monday"}
    assert [run.code for run in run_ranks(tmp_path, variables=first)] == [0, 0]
    for restarts in ("0", "1"):
        second = {"TORCHELASTIC_RUN_ID": "tuesday", "TORCHELASTIC_RESTART_COUNT": restarts}
        assert_one_line(run_ranks(tmp_path, variables=second), "not empty")


def test_a_wrong_option_of_one_rank_names_the_rank(tmp_path: Path) -> None:
    assert_one_line(run_ranks(tmp_path, of_rank_1=("--set", "gama=1")), "rank 1: ", "'gamma'")


@pytest.mark.slow
def test_a_run_resumes_with_the_same_number_of_ranks_only(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder, steps in ((whole, "96"), (parts, "64")):
        run_ranks(folder, "-n", steps, "--set", "normalize=true", "--set", "use_sde=true")
    assert_one_line(run_ranks(parts, "--resume", size=1), "number of ranks was 2", "not 1")
    runs = run_ranks(parts, "--resume", "-n", "96")
    assert [run.code for run in runs] == [0, 0], runs
    assert_same_training(ModelDir(whole / "run"), ModelDir(parts / "run"))


def assert_same_training(one: ModelDir, other: ModelDir) -> None:
    """Policy, statistics and log are the same, up to what sums round in another process."""
    first, second = checkpoint_of(one), checkpoint_of(other)
    torch.testing.assert_close(second.learner, first.learner, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(second.rollout["last_obs"], first.rollout["last_obs"], atol=1e-5)
    columns = ("rollout/ep_rew_mean", "rollout/ep_len_mean", "eval/mean_reward")
    rows, own_rows = log_of(one), log_of(other)
    for name in columns:
        expected = [float(row[name]) for row in rows if name in row]
        assert [float(row[name]) for row in own_rows if name in row] == pytest.approx(expected)
