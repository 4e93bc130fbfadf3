"""A rank that leaves closes its connections, so that the others find its failure."""

from __future__ import annotations

import time
from pathlib import Path

import torch

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
