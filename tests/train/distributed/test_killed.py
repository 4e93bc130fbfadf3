"""A run whose ranks are killed goes on from its checkpoint and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.train.checkpoint.runs import checkpoint_of
from tests.train.distributed.environments import WAIT_FOR
from tests.train.distributed.processes import Rank, run_command, start_ranks
from tests.train.distributed.test_command import MODULE, assert_same_training
from trpo_deploy.files.model_dir import ModelDir

UPDATES, KILLS = 60, 20
SETTINGS = [
    *("--set", "n_steps=8", "--set", "batch_size=16", "--set", "n_critic_updates=1"),
    *("--set", "cg_max_steps=1", "--set", "policy_kwargs={net_arch: [4]}", "--n-envs", "2"),
    *("--eval-every", "1000000", "--eval-episodes", "1", "--checkpoint-every", "16"),
    *("-n", str(16 * UPDATES), "--no-export", "--force"),
]


def command(folder: Path, env: str = "Small-v0") -> tuple[object, ...]:
    return ("train", f"{MODULE}:{env}", "-o", folder, *SETTINGS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_survives_twenty_kills(tmp_path: Path) -> None:
    """As torchrun restarts it: each life repeats the first command, without ``--resume``."""
    folder = ModelDir(tmp_path / "run")

    def start(life: int) -> list[Rank]:
        variables = {"TORCHELASTIC_RUN_ID": "job", "TORCHELASTIC_RESTART_COUNT": str(life)}
        return start_ranks(tmp_path / "ranks", run_command, [command(folder.root)] * 2, variables)

    steps = 0
    for life in range(KILLS):
        before, ranks = modified(folder), start(life)
        if life % 2:  # at any moment after it has written a checkpoint, or else at the start
            wait_for_change(folder, before)
        time.sleep(0.025 * (life // 4))
        killed = ranks[life // 2 % 2]
        killed.process.kill()
        time.sleep(0.1)
        for rank in ranks:
            rank.process.terminate()  # as torchrun does
        for rank in ranks:
            assert "Traceback" not in rank.wait().error
        if modified(folder) is not None:
            reached = checkpoint_of(folder).timesteps
            assert reached >= steps, "it started from the beginning"
            steps = reached
    assert steps > 0
    assert [rank.wait().code for rank in start(KILLS)] == [0, 0]
    undisturbed = start_ranks(
        tmp_path / "other ranks", run_command, [command(tmp_path / "undisturbed")] * 2
    )
    assert [rank.wait().code for rank in undisturbed] == [0, 0]
    assert checkpoint_of(folder).timesteps == 16 * UPDATES
    assert_same_training(ModelDir(tmp_path / "undisturbed"), folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torchrun_restarts_a_run_of_which_a_rank_was_killed(tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "run")
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
    words = map(str, command(folder.root, "Waiting-v0"))
    killed = tmp_path / "killed"
    with subprocess.Popen(
        [*torchrun, "--max-restarts", "1", "-m", "trpo_deploy", *words],
        env={**os.environ, WAIT_FOR: str(killed)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for_change(folder, None)
        (rank_1,) = (
            each
            for each in psutil.Process(process.pid).children()
            if each.environ().get("RANK") == "1"
        )
        os.kill(rank_1.pid, signal.SIGKILL)
        killed.touch()
        output, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    assert output.count("evaluation at         0 steps") == 1, "it started from the beginning"
    assert f"trained {16 * UPDATES} steps" in output
    assert checkpoint_of(folder).timesteps == 16 * UPDATES


def modified(folder: ModelDir) -> int | None:
    """When the checkpoint was written."""
    return folder.checkpoint.stat().st_mtime_ns if folder.checkpoint.is_file() else None


def wait_for_change(folder: ModelDir, before: int | None) -> None:
    """Wait until a new checkpoint is there."""
    end = time.monotonic() + 240
    while modified(folder) == before:
        assert time.monotonic() < end, "no checkpoint is written"
        time.sleep(0.01)
