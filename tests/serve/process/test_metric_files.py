"""Metrics are sums over the workers of now, and have their space from the start."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.runtime.policy_files import write_policy
from tests.serve.models.replace import replace_policy
from tests.serve.server import running, wait_until
from trpo_deploy.errors import ServeError
from trpo_deploy.serve.process import metric_files
from trpo_deploy.serve.process.metric_files import create_metric_files

OPEN = "trpo_deploy_open_websockets"
REQUESTS = 'trpo_deploy_requests_total{endpoint="/predict",model="cart",status="200"}'


def test_gauges_of_a_dead_worker_vanish_and_counts_stay(tmp_path: Path) -> None:
    model = write_policy(tmp_path / "cart" / "policy.onnx").parent
    with running(model, workers=2) as server, ExitStack() as sockets:
        for _ in range(8):
            sockets.enter_context(connect(server.websocket_url("cart")))
        for _ in range(5):
            server.predict([1, 2, 3, 4])
        assert wait_until(lambda: server.metric(OPEN) == 8)
        assert wait_until(lambda: server.metric(REQUESTS) == 5)
        for worker in server.workers():
            os.kill(worker.pid, signal.SIGKILL)
            assert wait_until(lambda gone=worker: server.has_replaced(gone, 2))  # type: ignore[misc]
        assert wait_until(lambda: server.metric(OPEN) == 0)
        assert server.metric(REQUESTS) == 5
        assert wait_until(lambda: server.metric("trpo_deploy_worker_restarts_total") == 2)


def test_models_and_their_reloads_are_metrics(tmp_path: Path) -> None:
    file = write_policy(tmp_path / "cart" / "policy.onnx")
    with running(tmp_path / "cart", workers=2) as server:

        def lines() -> list[str]:
            text = server.client.get("/metrics").text
            return [line for line in text.splitlines() if line.startswith("trpo_deploy_model_info")]

        def reloads(result: str) -> float:
            return server.metric(f'trpo_deploy_model_reloads_total{{result="{result}"}}')

        assert reloads("ok") == reloads("refused") == 0
        version = replace_policy(file, 1)
        assert wait_until(lambda: reloads("ok") == 1)
        (line,) = lines()
        assert f'sha256="{version}"' in line
        assert 'status="ready"' in line
        file.write_bytes(b"nothing")
        assert wait_until(lambda: reloads("refused") == 1)
        (line,) = lines()
        assert f'sha256="{version}"' in line
        assert 'status="stale"' in line
        time.sleep(2.5)
        assert reloads("refused") == reloads("ok") == 1  # once, not once a second or by worker


def test_the_files_of_a_killed_service_are_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_files, "_MEMORY", tmp_path)
    code = (
        "import pathlib, time\n"
        "from trpo_deploy.serve.process import metric_files\n"
        f"metric_files._MEMORY = pathlib.Path({str(tmp_path)!r})\n"
        "with metric_files.create_metric_files(1) as files:\n"
        "    print(files.folder, flush=True)\n"
        "    time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        os.utime(folder, (0, 0))
        with create_metric_files(1):
            assert folder.is_dir()
        owner.kill()
    os.utime(folder, (0, 0))
    with create_metric_files(1) as files:
        assert list(tmp_path.iterdir()) == [files.folder]


def test_files_are_on_disk_if_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory, disk = tmp_path / "memory", tmp_path / "disk"
    memory.mkdir()
    disk.mkdir()
    monkeypatch.setattr(metric_files, "_MEMORY", memory)
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    with create_metric_files(2) as files:
        assert files.folder.parent == memory
        assert len(list(files.folder.iterdir())) == 6
        assert all(file.stat().st_blocks > 0 for file in files.folder.iterdir())
    assert not list(memory.iterdir())

    def claim(fd: int, *_: int) -> None:
        if str(memory) in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", claim)
    with create_metric_files(1) as files:
        assert files.folder.parent == disk
    assert [record.message for record in caplog.records] == [
        f"{memory} is full (ENOSPC); metrics are kept on disk"
    ]
    assert not [*memory.iterdir(), *disk.iterdir()]
    monkeypatch.setattr(metric_files, "_MEMORY", tmp_path / "none")
    monkeypatch.setattr("tempfile.tempdir", str(memory))
    with pytest.raises(ServeError, match="no space for metrics"), create_metric_files(1):
        pass
