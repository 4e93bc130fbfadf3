"""Ranks that cannot connect, and ranks that leave: the others notice, with one clear line."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
import torch

from tests.command import run_process
from tests.train.distributed.processes import start_ranks
from trpo_deploy.errors import RankFailedError
from trpo_deploy.train import joined

WAIT_S = 120.0
"""Generous: a machine may be busy."""


def fail_and_stay(noticed: Path) -> None:
    """Fail as rank 0, and end only after rank 1 has noticed; the function of a rank."""
    try:
        with joined() as ranks:
            # The first optimizer imports much of torch.distributed.
            torch.optim.Adam(torch.nn.Linear(1, 1).parameters())
            ranks.sum(torch.ones(1))
            if ranks.rank == 0:
                raise ValueError("the motor is hot")
            ranks.sum(torch.ones(1))
    except RankFailedError as error:
        noticed.write_text(str(error))
    except ValueError:
        end = time.monotonic() + WAIT_S
        while not noticed.exists():
            assert time.monotonic() < end, "rank 1 still waits for a message"
            time.sleep(0.05)


def test_others_notice_a_failed_rank_while_its_process_goes_on(tmp_path: Path) -> None:
    noticed = tmp_path / "noticed"
    runs = [rank.wait() for rank in start_ranks(tmp_path, fail_and_stay, [(noticed,)] * 2)]
    assert [run.code for run in runs] == [0, 0], runs
    assert noticed.read_text() == "rank 0: the motor is hot"


@pytest.mark.slow
def test_a_store_out_of_reach_is_one_clear_line(tmp_path: Path) -> None:
    """Without the C++ stacks that torch prints for each try."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        port = closed.getsockname()[1]
        variables = {
            "WORLD_SIZE": "2",
            "RANK": "1",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TRPO_DEPLOY_RANK_TIMEOUT": "1",
        }
        run = run_process("train", "CartPole-v1", cwd=tmp_path, env=variables)
    run.assert_one_clear_line(f"rank 1 cannot connect to the others at 127.0.0.1:{port} (")
    assert not list(tmp_path.iterdir())
