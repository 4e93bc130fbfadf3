"""One process holds a lease; what a dead one held is free, on this machine and on another."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trpo_deploy.errors import ModelDirError
from trpo_deploy.train.run.jobs import lease as module
from trpo_deploy.train.run.jobs.lease import Lease, Leases

HOLDER = """
import sys, time
from pathlib import Path
from trpo_deploy.train.run.jobs import lease
lease.LEASE_S = float(sys.argv[2])
held = lease.Leases(Path(sys.argv[1])).take("run")
print("held" if held is not None else "refused", flush=True)
time.sleep(600)
"""
WAIT_S = 60.0
"""Generous: a machine may be busy."""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lease ``run``."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path), str(module.LEASE_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def taken(leases: Leases) -> Lease:
    """Take the lease ``run`` as soon as it is free."""
    end = time.monotonic() + WAIT_S
    while (lease := leases.take("run")) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    return lease


def test_a_lease_is_held_once_and_free_after_its_end(tmp_path: Path) -> None:
    ours, theirs = Leases(tmp_path / "new"), Leases(tmp_path / "new")
    lease = ours.take("run")
    assert lease is not None
    assert theirs.take("run") is None
    assert ours.take("run") is None
    with theirs.held("another"):
        assert ours.take("another") is None
    lease.close()
    with theirs.held("run"):
        assert ours.take("run") is None
    assert not list(tmp_path.rglob("*.lease"))


@pytest.mark.slow
def test_the_lease_of_a_killed_process_is_free_at_once(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    leases = Leases(tmp_path)
    assert leases.take("run") is None
    holder.kill()
    holder.wait()
    start = time.monotonic()
    taken(leases).close()
    assert time.monotonic() - start < module.LEASE_S


def from_another_machine(folder: Path) -> Path:
    """The lease ``run``, as a process of another machine would have written it."""
    lease = Leases(folder).take("run")
    assert lease is not None
    (file,) = folder.glob("*.lease")
    text = file.read_text()
    lease.close()
    (host,) = (line for line in text.splitlines() if os.uname().nodename in line)
    file.write_text(text.replace(host, "elsewhere"))
    file.chmod(0o644)
    return file


def test_a_machine_that_no_longer_renews_its_lease_loses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_S", 1.0)
    file = from_another_machine(tmp_path)
    leases, start = Leases(tmp_path), time.monotonic()
    while time.monotonic() < start + 2:  # while it renews the lease
        last = time.monotonic()
        os.utime(file)
        assert leases.take("run") is None
        time.sleep(0.1)
    taken(leases).close()
    assert time.monotonic() - last >= module.LEASE_S


def test_a_holder_sees_that_its_lease_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_S", 0.6)
    lease = Leases(tmp_path).take("run")
    assert lease is not None
    lost = lease.is_lost
    assert not lost
    (file,) = tmp_path.glob("*.lease")
    file.rename(tmp_path / "old")  # as by a machine that has not seen a heartbeat
    from_another_machine(tmp_path)
    end = time.monotonic() + WAIT_S
    while not lease.is_lost:
        assert time.monotonic() < end
        time.sleep(0.05)
    lease.close()
    assert file.exists()  # the other machine's


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelDirError, match=r"cannot write into .*file is a file, not a folder"):
        Leases(tmp_path / "file" / "leases").take("run")
