"""What all pages share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.command import run_process
from tests.docs.forked_command import forked_command


@pytest.fixture(scope="session")
def commands() -> Iterator[Path]:
    """A folder with a ``trpo-deploy`` that starts in a moment."""
    with TemporaryDirectory() as folder, forked_command(Path(folder)) as commands:
        yield commands


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``trpo-deploy train CartPole-v1`` writes, after fewer steps.

    They suffice for a certificate with all witnesses: returns that random actions do not reach.
    """
    folder = tmp_path_factory.mktemp("trained")
    words = ("train", "CartPole-v1", "-n", 24_576, "--eval-every", 24_576)
    done = run_process(*words, cwd=folder)
    assert done.code == 0, done.error
    return folder / "runs" / "CartPole-v1"
