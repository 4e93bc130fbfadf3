"""Changed files are tried and served; the old model stays if the new one is bad."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.runtime.policy_files import ACTION_SPACES, box, change_spec, write_policy
from tests.serve.models.replace import replace_policy
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.errors import RequestError
from trpo_deploy.serve.models.own_registry import own_registry
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.settings import Settings
from trpo_deploy.spec.components import Component
from trpo_deploy.spec.policy_spec import OBS


class Models:
    """A publisher, and a worker's view of what it publishes."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.registry, self.publisher = own_registry(Settings(models=(path,), **settings))

    def refresh(self) -> Registry:
        self.publisher.look()
        self.registry.refresh()
        return self.registry


def write_certificate(path: Path, **changes: Any) -> None:
    policy = OnnxPolicy(path)
    golden = np.array([1, 2, 3, 4], np.float32)
    value = {
        "verdict": "pass",
        "sha256": {"policy.onnx": policy.sha256},
        "golden": {"observation": golden.tolist(), "action": policy.predict(golden)[0].tolist()},
        **changes,
    }
    (path.parent / "certificate.json").write_text(json.dumps(value))


def accept_one_row_only(path: Path) -> None:
    """Break a file: its spec allows any batch, its graph only one row."""
    model = onnx.load(str(path))
    shape = next(node for node in model.graph.node if node.op_type == "Reshape")
    constant = next(item for item in model.graph.initializer if item.name == shape.input[1])
    constant.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 4], np.int64), constant.name))
    onnx.save(model, path)


def replace_a_certified_file(path: Path) -> None:
    write_certificate(path)
    replace_policy(path, 1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "cart" / "policy.onnx")


def test_a_changed_file_is_loaded(file: Path) -> None:
    models = Models(file)
    old = models.registry.get("cart")
    assert models.refresh().get("cart") is old
    version = replace_policy(file, seed=1)
    registry = models.refresh()
    assert registry.get("cart").version == version != old.version


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.write_bytes(b"nothing"), "ONNX file"),
        (lambda file: file.write_bytes(b""), "ONNX file"),
        (lambda file: replace_policy(file, 1, box(5)), "another name"),
        (lambda file: replace_policy(file, 1, box(4), ACTION_SPACES["discrete"]), "another name"),
        (replace_a_certified_file, "another file"),
        (lambda file: write_certificate(file, verdict="fail"), "not the trained policy"),
        (
            lambda file: write_certificate(file, golden={"observation": [1] * 4, "action": [9, 9]}),
            "golden",
        ),
        (
            lambda file: write_certificate(file, golden={"observation": [1], "action": [0, 0]}),
            "golden",
        ),
        (lambda file: write_certificate(file, golden=3), "golden"),
        (lambda file: (file.parent / "certificate.json").write_text("{"), "certificate"),
        (lambda file: (file.parent / "certificate.json").write_text("[]"), "certificate"),
        (accept_one_row_only, "cannot be run"),
        (lambda file: write_policy(file, frames=2), "states"),
        (lambda file: file.unlink(), "does not exist"),
        (lambda file: shutil.rmtree(file.parent), "does not exist"),
    ],
)
def test_a_bad_file_does_not_replace_the_served_model(file: Path, damage: Any, words: str) -> None:
    models = Models(file)
    old = models.registry.get("cart")
    damage(file)
    registry = models.refresh()
    assert registry.get("cart") is old
    assert words in (registry.entries["cart"].error or "")
    assert registry.entries["cart"].status == "stale"
    with pytest.raises(RequestError, match=words) as caught:
        registry.load("cart")
    assert caught.value.status == 409


def names(*values: str, unit: str | None = None) -> tuple[Component, ...]:
    return tuple(Component(value, unit) for value in values)


JOINTS = {
    "observation_components": {OBS: names("a", "b", "c", "d", unit="rad")},
    "action_components": names("left", "right"),
    "period": 0.01,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action_components": names("right", "left")}, "right at index 0 of the action"),
        ({"observation_components": {OBS: names("a", "b", "d", "c", unit="rad")}}, "d in rad at"),
        ({"observation_components": {OBS: names("a", "b", "c", "d", unit="deg")}}, "a in deg at"),
        ({"period": 0.002}, "control period of 0.002 s"),
    ],
    ids=["order of the action", "order of the observation", "unit", "period"],
)
def test_a_file_whose_numbers_mean_something_else_does_not_replace_the_served_model(
    file: Path, changes: dict[str, Any], words: str
) -> None:
    change_spec(file, **JOINTS)
    models = Models(file)
    old = models.registry.get("cart")
    change_spec(file, **{**JOINTS, **changes})
    registry = models.refresh()
    assert registry.get("cart") is old
    assert words in (registry.entries["cart"].error or "")


@pytest.mark.parametrize("known", [{}, JOINTS])
def test_a_file_may_know_more_or_less_about_its_numbers(file: Path, known: dict[str, Any]) -> None:
    others: dict[str, Any] = {"observation_components": {}, "action_components": (), "period": None}
    change_spec(file, **others if known else JOINTS)
    models = Models(file)
    old = models.registry.get("cart")
    change_spec(file, **known if known else others)
    assert models.refresh().get("cart").version != old.version


def test_the_certificate_is_part_of_the_model(file: Path) -> None:
    write_certificate(file)
    model = Models(file).registry.get("cart")
    assert model.certificate is not None
    assert model.certificate["verdict"] == "pass"


def test_a_repaired_model_is_served(file: Path) -> None:
    good = file.read_bytes()
    file.write_bytes(b"nothing")
    models = Models(file)
    with pytest.raises(RequestError) as caught:
        models.registry.get("cart")
    assert caught.value.status == 503
    file.write_bytes(good)
    assert models.refresh().get("cart").name == "cart"


def test_without_any_model_a_process_waits_for_one(tmp_path: Path) -> None:
    models = Models(tmp_path / "cart")
    assert "does not exist" in (models.registry.entries["cart"].error or "")
    write_policy(tmp_path / "cart" / "policy.onnx")
    assert models.refresh().get("cart").name == "cart"


def test_a_worker_keeps_a_model_whose_replacement_it_cannot_open(file: Path) -> None:
    models = Models(file)
    registry, publisher = models.registry, models.publisher
    old = registry.get("cart")
    version = replace_policy(file, seed=1)
    publisher.look()
    (key,) = publisher.view.models["cart"].versions.values()
    stored = publisher.store / key / "policy.onnx"
    content = stored.read_bytes()
    stored.write_bytes(b"nothing")
    registry.refresh()
    assert registry.get("cart") is old
    assert "ONNX file" in (registry.entries["cart"].error or "")
    stored.write_bytes(content)
    registry.refresh()
    assert registry.get("cart").version == version
    assert registry.entries["cart"].status == "ready"


def test_a_bad_model_does_not_affect_the_others(tmp_path: Path) -> None:
    write_policy(tmp_path / "good" / "policy.onnx")
    write_policy(tmp_path / "bad" / "policy.onnx").write_bytes(b"nothing")
    registry = Models(tmp_path).registry
    assert registry.get("good").name == "good"
    assert "ONNX file" in (registry.entries["bad"].error or "")
    assert [registry.entries[name].status for name in ("good", "bad")] == ["ready", "failed"]
    assert registry.get(None).name == "good"  # clients that name no model are not disturbed


def test_a_model_added_to_a_folder_of_models_is_served(tmp_path: Path) -> None:
    write_policy(tmp_path / "one" / "policy.onnx")
    models = Models(tmp_path)
    write_policy(tmp_path / "two" / "policy.onnx")
    assert sorted(models.refresh().entries) == ["one", "two"]


def test_each_numbered_version_is_served_and_the_highest_is_the_latest(tmp_path: Path) -> None:
    for version in (2, 10, 9):
        write_policy(tmp_path / "ant" / str(version) / "policy.onnx", seed=version)
    models = Models(tmp_path / "ant")
    registry = models.registry
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
    models.refresh()
    assert registry.get("ant").version == "11"
    assert registry.get("ant", "9") is old
    with pytest.raises(RequestError):
        registry.get("ant", "2")


def test_an_unchanged_version_is_not_loaded_again(tmp_path: Path) -> None:
    write_policy(tmp_path / "ant" / "1" / "policy.onnx")
    models = Models(tmp_path / "ant")
    first = models.registry.get("ant", "1")
    write_policy(tmp_path / "ant" / "2" / "policy.onnx", seed=1)
    assert models.refresh().get("ant", "1") is first
