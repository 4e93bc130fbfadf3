"""``/admin/models/NAME/load`` answers when all workers serve the new version."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import httpx
import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.models.replace import replace_policy
from tests.serve.server import Server, running
from trpo_deploy.serve.models.view import LoadResult
from trpo_deploy.serve.process.model_loads import ModelLoads

KEY = "an-admin-key-of-the-tests"
STUCK_S = 3


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "cart" / "policy.onnx")


@pytest.fixture
def loading(model: Path, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "keys").write_text(KEY)
    options = {"admin_key_file": tmp_path / "keys", "stuck_worker_seconds": STUCK_S}
    with running(model, workers=2, **options) as server:
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


def test_a_model_that_is_refused_or_unknown_is_answered_at_once(
    loading: Server, model: Path
) -> None:
    assert load(loading, "unknown").status_code == 404
    # As JSON it is longer than a message between the processes may be.
    assert load(loading, "%01" * 20_000).status_code == 404
    model.write_bytes(b"no policy")
    refused = load(loading, "cart")
    assert refused.status_code == 409
    assert str(model) in refused.json()["error"]["message"]


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
    stuck.wait(60)  # it was killed; a busy machine takes a moment to remove it
    assert stuck not in loading.workers()


def test_a_load_that_fails_is_answered_with_the_kind_of_its_error() -> None:
    class Source:
        def load(self, name: str) -> LoadResult:
            raise RecursionError(name)

    woken, answers = Event(), []
    loads = ModelLoads(Source(), woken.set, 1)
    loads.request("cart", lambda result, problem: answers.append((result, problem)))
    assert woken.wait(60)
    loads.update([])
    (result, problem), *rest = answers
    assert result is None
    assert "RecursionError" in str(problem)
    assert not rest
