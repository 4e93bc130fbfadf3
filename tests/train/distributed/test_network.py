"""A run on two machines, here network namespaces, survives a cable that is cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train.checkpoint.runs import checkpoint_of
from tests.train.distributed.environments import WAIT_FOR
from tests.train.distributed.test_killed import UPDATES, command, wait_for_change
from trpo_deploy.files.model_dir import ModelDir

CABLE, TIMEOUT_S = "cable", 5
ADDRESSES = ("10.213.77.1", "10.213.77.2")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Two network namespaces with a cable between them."""
    if shutil.which("ip") is None:
        pytest.skip("needs ip (the package iproute2)")
    names = [f"trpo-{os.getpid()}-{i}" for i in range(2)]
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ends = [f"trpo{os.getpid()}{i}"[-15:] for i in range(2)]
            ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"needs the right to make network namespaces: {error.stderr!r}")
        for name, end, address in zip(names, ends, ADDRESSES, strict=True):
            ip("link", "set", end, "netns", name, "name", CABLE)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", CABLE)
            for device in ("lo", CABLE):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def start_torchrun(machine: int, names: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start torchrun with one rank on a machine; the first machine keeps the store."""
    options = {
        "--nnodes": "2",
        "--nproc-per-node": "1",
        "--max-restarts": "9",
        "--rdzv-id": "job",
        "--rdzv-backend": "c10d",
        "--rdzv-endpoint": f"{ADDRESSES[0]}:29400",
        "--rdzv-conf": f"is_host={1 - machine}",
        "--local-addr": ADDRESSES[machine],
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run"]
    words = [word for option in options.items() for word in option]
    with (folder / f"{machine}.log").open("ab") as log:
        return subprocess.Popen(
            [
                *("ip", "netns", "exec", names[machine], *torchrun, *words, "-m", "trpo_deploy"),
                *map(str, command(folder / "run", "Waiting-v0")),
            ],
            env={
                **os.environ,
                "GLOO_SOCKET_IFNAME": CABLE,
                "TRPO_DEPLOY_RANK_TIMEOUT": str(TIMEOUT_S),
                WAIT_FOR: str(folder / "cut"),
            },
            stdout=log,
            stderr=log,
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_goes_on_after_a_cut_cable(machines: list[str], tmp_path: Path) -> None:
    folder = ModelDir(tmp_path / "run")
    processes = [start_torchrun(machine, machines, tmp_path) for machine in range(2)]
    try:
        wait_for_change(folder, None)
        ip("-n", machines[0], "link", "set", CABLE, "down")
        (tmp_path / "cut").touch()
        end = time.monotonic() + 500
        while "lost the connection to another rank" not in logs(tmp_path):
            assert time.monotonic() < end, logs(tmp_path)
            time.sleep(0.2)
        ip("-n", machines[0], "link", "set", CABLE, "up")
        while any(process.poll() is None for process in processes):
            assert time.monotonic() < end, logs(tmp_path)
            time.sleep(0.2)
            # torchrun itself may have lost its store; a cluster then starts it again.
            for machine, process in enumerate(processes):
                if process.poll():
                    processes[machine] = start_torchrun(machine, machines, tmp_path)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for name in machines:
            left = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            for pid in left.stdout.split():
                os.kill(int(pid), 9)
    assert logs(tmp_path).count("evaluation at         0 steps") == 1
    assert checkpoint_of(folder).timesteps == 16 * UPDATES


def logs(folder: Path) -> str:
    return "".join(path.read_text(errors="replace") for path in sorted(folder.glob("*.log")))
