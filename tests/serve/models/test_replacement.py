"""A running service replaces models without failing a request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.models.replace import replace_policy
from tests.serve.server import Server, running, wait_until

KEY = "admin-key-of-the-tests"
ADMIN = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    root = tmp_path_factory.mktemp("swap")
    keys = root / "keys"
    keys.write_text(f"# of the tests\n{KEY}\n")
    file = write_policy(root / "cart" / "policy.onnx")
    with running(file.parent, workers=2, admin_key_file=keys) as server:
        yield server, file


def test_admin_load_replies_with_the_served_version(
    two_workers: tuple[Server, Path],
) -> None:
    server, file = two_workers
    url = "/admin/models/cart/load"
    assert server.client.post(url).status_code == 401
    wrong = server.client.post(url, headers={"authorization": "Bearer no"})
    assert wrong.status_code == 401
    assert "send a key of --admin-key-file" in wrong.json()["error"]["message"]
    version = replace_policy(file, seed=2)
    answer = server.client.post(url, headers=ADMIN)
    assert answer.json()["version"] == version
    assert server.client.post("/admin/models/nobody/load", headers=ADMIN).status_code == 404
    good = file.read_bytes()
    file.write_bytes(b"nothing")
    refused = server.client.post(url, headers=ADMIN)
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "model_refused"
    assert server.predict([1, 2, 3, 4]).json()["version"] == version
    file.write_bytes(good)


def test_no_request_fails_while_models_are_replaced(two_workers: tuple[Server, Path]) -> None:
    server, file = two_workers
    bad: list[str] = []
    seen: set[str] = set()
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=20) as client:
            while not done.is_set():
                response = client.post("/predict", json={"observation": [1, 2, 3, 4]})
                if response.status_code != 200:
                    bad.append(response.text)
                seen.add(response.json()["version"])

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    versions = []
    for seed in range(10, 14):
        versions.append(replace_policy(file, seed))
        wait_until(lambda: versions[-1] in seen, 10)
    done.set()
    for thread in threads:
        thread.join()
    assert not bad
    assert set(versions) <= seen


def test_every_worker_loads_a_replaced_model(two_workers: tuple[Server, Path]) -> None:
    server, file = two_workers
    version = replace_policy(file, seed=20)

    def answers() -> set[str]:
        return {  # a new connection each, so both workers are asked
            httpx.post(f"{server.url}/predict", json={"observation": [1, 2, 3, 4]}).json()[
                "version"
            ]
            for _ in range(8)
        }

    assert wait_until(lambda: answers() == {version}, 10)
