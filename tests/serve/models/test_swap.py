"""Models change while they are served: the new one is checked, the old one kept if it is bad."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest

from tests.runtime.policy_files import ACTION_SPACES, box, write_policy
from tests.serve.server import Server, running, wait_until
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.discovery import find_models
from trpo_deploy.serve.models.registry import Registry

KEY = "admin-key-of-the-tests"
ADMIN = {"authorization": f"Bearer {KEY}"}


def put(path: Path, seed: int, **spaces: Any) -> str:
    """Write a policy as the export does: whole, under its name at once. Returns its version."""
    new = write_policy(path.with_name("new.tmp"), *spaces.values(), seed=seed)
    version = OnnxPolicy(new).sha256[:12]
    os.replace(new, path)
    return version


def certificate(path: Path, **changes: Any) -> None:
    policy = OnnxPolicy(path)
    golden = np.float32([1, 2, 3, 4])
    value = {
        "verdict": "pass",
        "sha256": {"policy.onnx": policy.sha256},
        "golden": {"observation": golden.tolist(), "action": policy.predict(golden)[0].tolist()},
        **changes,
    }
    (path.parent / "certificate.json").write_text(json.dumps(value))


def fails_on_three(path: Path) -> None:
    """A file that says it takes any batch, and takes one only."""
    model = onnx.load(str(path))
    shape = next(node for node in model.graph.node if node.op_type == "Reshape")
    constant = next(item for item in model.graph.initializer if item.name == shape.input[1])
    constant.CopyFrom(onnx.numpy_helper.from_array(np.int64([1, 4]), constant.name))
    onnx.save(model, path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "cart" / "policy.onnx")


def test_a_changed_file_is_taken_up(file: Path) -> None:
    registry = Registry([file])
    old = registry.get("cart")
    registry.refresh()
    assert registry.get("cart") is old
    version = put(file, seed=1)
    registry.refresh()
    assert registry.get("cart").version == version != old.version


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.write_bytes(b"nothing"), "no ONNX file"),
        (lambda file: file.write_bytes(b""), "no ONNX file"),
        (lambda file: put(file, 1, obs=box(5)), "another name"),
        (lambda file: put(file, 1, obs=box(4), act=ACTION_SPACES["discrete"]), "another name"),
        (lambda file: (certificate(file), put(file, 1)), "another file"),
        (lambda file: certificate(file, verdict="fail"), "not the trained policy"),
        (
            lambda file: certificate(file, golden={"observation": [1] * 4, "action": [9, 9]}),
            "golden",
        ),
        (lambda file: certificate(file, golden={"observation": [1], "action": [0, 0]}), "golden"),
        (lambda file: certificate(file, golden=3), "golden"),
        (lambda file: (file.parent / "certificate.json").write_text("{"), "certificate"),
        (lambda file: (file.parent / "certificate.json").write_text("[]"), "certificate"),
        (lambda file: fails_on_three(file), "cannot be run"),
        (lambda file: write_policy(file, frames=2), "states"),
        (lambda file: file.unlink(), "cannot read"),
        (lambda file: shutil.rmtree(file.parent), "cannot read"),
    ],
)
def test_the_old_model_is_kept_when_the_new_is_bad(file: Path, spoil: Any, words: str) -> None:
    registry = Registry([file])
    old = registry.get("cart")
    spoil(file)
    registry.refresh()
    assert registry.get("cart") is old
    assert words in (registry.entries["cart"].error or "")
    assert registry.entries["cart"].status == "stale"
    with pytest.raises(RequestError, match=words) as caught:
        registry.load("cart")
    assert caught.value.status == 409


def test_a_good_certificate_is_shown(file: Path) -> None:
    certificate(file)
    model = Registry([file]).get("cart")
    assert model.certificate is not None
    assert model.certificate["verdict"] == "pass"


def test_a_model_that_is_mended_is_served_again(file: Path) -> None:
    good = file.read_bytes()
    file.write_bytes(b"nothing")
    registry = Registry([file])
    with pytest.raises(RequestError) as caught:
        registry.get("cart")
    assert caught.value.status == 503
    file.write_bytes(good)
    registry.refresh()
    assert registry.get("cart").name == "cart"


def test_a_bad_model_does_not_take_the_others_down(tmp_path: Path) -> None:
    write_policy(tmp_path / "good" / "policy.onnx")
    write_policy(tmp_path / "bad" / "policy.onnx").write_bytes(b"nothing")
    registry = Registry([tmp_path])
    assert registry.get("good").name == "good"
    assert "no ONNX file" in (registry.entries["bad"].error or "")
    assert [registry.entries[name].status for name in ("good", "bad")] == ["ready", "failed"]


def test_a_new_folder_of_a_folder_of_models_is_served(tmp_path: Path) -> None:
    write_policy(tmp_path / "one" / "policy.onnx")
    registry = Registry([tmp_path])
    write_policy(tmp_path / "two" / "policy.onnx")
    registry.refresh()
    assert sorted(registry.entries) == ["one", "two"]


def test_numbered_versions_are_served_side_by_side(tmp_path: Path) -> None:
    for version in (2, 10, 9):
        write_policy(tmp_path / "ant" / str(version) / "policy.onnx", seed=version)
    registry = Registry([tmp_path / "ant"])
    assert list(registry.entries["ant"].versions) == ["2", "9", "10"]
    assert registry.get("ant").version == registry.get("ant", "latest").version == "10"
    assert registry.get("ant", "2").version == "2"
    with pytest.raises(RequestError) as caught:
        registry.get("ant", "3")
    assert caught.value.status == 404
    write_policy(tmp_path / "ant" / "11" / "policy.onnx", seed=11)
    (tmp_path / "ant" / "9" / "policy.onnx").write_bytes(b"nothing")
    shutil.rmtree(tmp_path / "ant" / "2")
    old = registry.get("ant", "9")
    registry.refresh()
    assert registry.get("ant").version == "11"
    assert registry.get("ant", "9") is old
    with pytest.raises(RequestError):
        registry.get("ant", "2")


def test_a_version_is_loaded_once(tmp_path: Path) -> None:
    write_policy(tmp_path / "ant" / "1" / "policy.onnx")
    registry = Registry([tmp_path / "ant"])
    first = registry.get("ant", "1")
    write_policy(tmp_path / "ant" / "2" / "policy.onnx", seed=1)
    registry.refresh()
    assert registry.get("ant", "1") is first


def test_names_come_from_folders_or_files(tmp_path: Path) -> None:
    write_policy(tmp_path / "many" / "a" / "policy.onnx")
    write_policy(tmp_path / "many" / "b" / "1" / "policy.onnx")
    write_policy(tmp_path / "alone.onnx")
    assert list(find_models([tmp_path / "many", tmp_path / "alone.onnx"])) == ["a", "b", "alone"]


@pytest.fixture(scope="module")
def swapping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    root = tmp_path_factory.mktemp("swap")
    keys = root / "keys"
    keys.write_text(f"# of the tests\n{KEY}\n")
    file = write_policy(root / "cart" / "policy.onnx")
    with running(file.parent, workers=2, admin_key_file=keys) as server:
        yield server, file


def test_admin_loads_a_model_and_says_what_is_served(swapping: tuple[Server, Path]) -> None:
    server, file = swapping
    url = "/admin/models/cart/load"
    assert server.client.post(url).status_code == 401
    assert server.client.post(url, headers={"authorization": "Bearer no"}).status_code == 401
    version = put(file, seed=2)
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


def test_swaps_under_load_fail_no_request(swapping: tuple[Server, Path]) -> None:
    server, file = swapping
    bad: list[Any] = []
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
        versions.append(put(file, seed))
        wait_until(lambda: versions[-1] in seen, 10)
    done.set()
    for thread in threads:
        thread.join()
    assert not bad
    assert set(versions) <= seen


def test_all_workers_take_a_swap_up(swapping: tuple[Server, Path]) -> None:
    server, file = swapping
    version = put(file, seed=20)

    def answers() -> set[str]:
        return {  # a new connection each, so that both workers are asked
            httpx.post(f"{server.url}/predict", json={"observation": [1, 2, 3, 4]}).json()[
                "version"
            ]
            for _ in range(8)
        }

    assert wait_until(lambda: answers() == {version}, 10)
