"""Two ranks train as one process with the environments of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.checkpoint.runs import checkpoint_of, log_of
from tests.train.distributed.cases import CASES, run_of, train_all_cases, train_case
from tests.train.distributed.processes import start_ranks

RTOL, ATOL = 1e-4, 1e-5
"""The ranks add float32 numbers in another order; a difference of 1e-7 was measured."""
LIMIT_S = 800.0
"""For all cases together. Generous: a machine may be busy."""


@pytest.fixture(scope="session")
def trained_by_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of each case, by number."""
    folder = tmp_path_factory.mktemp("ranks")
    for rank in start_ranks(folder / "ranks", train_all_cases, [(folder,)] * 2):
        run = rank.wait(LIMIT_S)
        assert run.code == 0, run.error
    return folder


@pytest.mark.timeout(900)
@pytest.mark.slow  # the fixture trains all cases
@pytest.mark.filterwarnings("ignore:The rollout of")
@pytest.mark.parametrize("name", CASES)
def test_two_ranks_give_the_policy_of_one_process(
    name: str, trained_by_two_ranks: Path, tmp_path: Path
) -> None:
    run, other = train_case(name, tmp_path), run_of(name, trained_by_two_ranks)
    one, two = checkpoint_of(run), checkpoint_of(other)
    for key in ("policy", "optimizer", "return_moments", "counters"):
        torch.testing.assert_close(two.learner[key], one.learner[key], rtol=RTOL, atol=ATOL)
    if one.learner["normalizer"] is not None:
        for key, moments in one.learner["normalizer"].items():
            own = two.learner["normalizer"][key]
            if key != "returns":  # those of its own environments
                np.testing.assert_equal(own["count"], moments["count"])
                np.testing.assert_allclose(own["mean"], moments["mean"], rtol=RTOL, atol=ATOL)
                np.testing.assert_allclose(own["var"], moments["var"], rtol=RTOL, atol=ATOL)
    for row, own_row in zip(log_of(run), log_of(other), strict=True):
        numbers = {key: float(value) for key, value in row.items() if not key.endswith("path")}
        own_numbers = {key: float(own_row[key]) for key in numbers}
        # A difference of two nearly equal numbers, and a residual at the limit of float32.
        assert own_numbers == pytest.approx(numbers, rel=1e-2, abs=1e-5)
