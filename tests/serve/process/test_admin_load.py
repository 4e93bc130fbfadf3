"""``/admin/models/NAME/load`` answers when all workers serve the new version."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.models.replace import replace_policy
from tests.serve.server import Server, serving

KEY = "an-admin-key-of-the-tests"
STUCK_S = 3

SERVE = """
import os, sys
from pathlib import Path
from trpo_deploy.serve.models.registry import LoadResult
from trpo_deploy.serve.process.listener import listen, url_of
from trpo_deploy.serve.process.metric_files import create_metric_files
from trpo_deploy.serve.process.supervisor import Supervisor
from trpo_deploy.serve.process.zygote_process import ZygoteProcess
from trpo_deploy.serve.settings import Settings

class Source:
    generation = 0

    def load(self, name):
        if name == "unknown":
            return LoadResult(known=False)
        if name == "bad":
            return LoadResult(True, "no good", self.generation)
        if name == "broken":
            raise RecursionError("deep")
        self.generation += 1
        return LoadResult(True, None, self.generation)

model, keys, stuck = sys.argv[1:]
settings = Settings(models=(Path(model),), admin_key_file=Path(keys))
with listen("127.0.0.1", 0) as listener, create_metric_files(2) as files:
    environment = {**os.environ, **settings.to_environment(),
                   "PROMETHEUS_MULTIPROC_DIR": str(files.folder)}
    zygote = ZygoteProcess(listener, environment, 2, None, central_loads=True)
    supervisor = Supervisor(zygote, listener, 2, float(stuck), files, Source())
    supervisor.run(lambda: print("serving at", url_of(listener, tls=False), flush=True))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "cart" / "policy.onnx")


@pytest.fixture
def loading(model: Path, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "keys").write_text(KEY)
    command = [sys.executable, "-c", SERVE, str(model), str(tmp_path / "keys"), str(STUCK_S)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with serving(process) as server:
        yield server


def load(server: Server, name: str) -> httpx.Response:
    path = f"{server.url}/admin/models/{name}/load"
    return httpx.post(path, headers={"authorization": f"Bearer {KEY}"}, timeout=60)


def test_the_answer_comes_when_all_workers_have_the_new_version(
    loading: Server, model: Path
) -> None:
    for seed in (1, 2):
        expected = replace_policy(model, seed)
        answer = load(loading, "cart")
        assert answer.status_code == 200, answer.text
        assert answer.json()["version"] == expected
        for _ in range(20):  # new connections, which are spread over the workers
            got = httpx.get(f"{loading.url}/models/cart")
            assert got.json()["version"] == expected


def test_a_model_that_is_refused_or_unknown_or_fails_is_answered_at_once(loading: Server) -> None:
    assert load(loading, "unknown").status_code == 404
    refused = load(loading, "bad")
    assert refused.status_code == 409
    assert "no good" in refused.json()["error"]["message"]
    broken = load(loading, "broken")
    assert (broken.status_code, broken.json()["error"]["code"]) == (503, "load_unfinished")
    assert "RecursionError" in broken.text


def test_a_stuck_worker_delays_the_answer_until_it_is_replaced(
    loading: Server, model: Path
) -> None:
    stuck = loading.workers()[0]
    os.kill(stuck.pid, signal.SIGSTOP)
    replace_policy(model, 3)
    started = time.monotonic()
    answer = load(loading, "cart")
    assert answer.status_code in (200, 503)
    assert time.monotonic() - started >= STUCK_S - 1
    assert stuck not in loading.workers()
