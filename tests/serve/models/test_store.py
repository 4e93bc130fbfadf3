"""A store lives as long as its process, and stores of killed processes are removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from trpo_deploy.serve.models.store import new_store

OWNER = """
import time
from trpo_deploy.serve.models.store import new_store
with new_store() as store:
    print(store, flush=True)
    time.sleep(100)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_a_store_is_private_and_removed_at_the_end() -> None:
    with new_store() as store:
        assert store.stat().st_mode & 0o777 == 0o700
        (store / "file").touch()
    assert not store.exists()


def test_the_store_of_a_killed_process_is_removed_and_that_of_a_living_one_stays() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout is not None
        store = Path(owner.stdout.readline().strip())
        os.utime(store, (0, 0))
        with new_store():
            assert store.is_dir()
        owner.send_signal(signal.SIGKILL)
    os.utime(store, (0, 0))
    with new_store() as other:
        assert not store.exists()
        assert other.is_dir()


def test_a_link_with_the_name_of_a_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.utime(tmp_path / "folder", (0, 0))
    (tmp_path / "trpo-deploy-models-link").symlink_to("folder")
    with new_store():
        assert (tmp_path / "folder").is_dir()
