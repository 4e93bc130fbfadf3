"""The publisher notices changes of content, keeps what passed, and survives its child."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.models.replace import replace_policy
from tests.serve.server import wait_until
from trpo_deploy.errors import ServeError
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.models import publisher as module
from trpo_deploy.serve.models.publisher import Publisher
from trpo_deploy.serve.models.view import ModelView, View
from trpo_deploy.serve.settings import Settings


def trials() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if "trpo_deploy.serve.process.trial" in child.cmdline()
    ]


class Publishing:
    """A publisher of the folder ``models``, and the folder that it publishes in."""

    def __init__(self, root: Path) -> None:
        self.models, self.store = root / "models", root / "store"
        for folder in (self.models, self.store):
            folder.mkdir()
        self._publishers: list[Publisher] = []
        self._earlier = trials()

    @property
    def trials(self) -> list[psutil.Process]:
        """The processes of its trials; those of other publishers may still end."""
        return [each for each in trials() if each not in self._earlier]

    def start(self, *paths: Path, **settings: Any) -> Publisher:
        values = Settings(models=paths or (self.models,), **settings)
        self._publishers.append(Publisher(values, self.store))
        return self._publishers[-1]

    def write(self, name: str, seed: int = 0) -> str:
        """Write a model; return its version."""
        return version_of(write_policy(self.models / name / "policy.onnx", seed=seed))

    def stop(self) -> None:
        for publisher in self._publishers:
            publisher.stop()


@pytest.fixture
def publishing(tmp_path: Path) -> Iterator[Publishing]:
    publishing = Publishing(tmp_path)
    yield publishing
    publishing.stop()


def version_of(file: Path) -> str:
    return OnnxPolicy(file).sha256[:12]


def look(publisher: Publisher, name: str = "cart") -> ModelView:
    publisher.look()
    return publisher.view.models[name]


def certify(folder: Path, **changes: Any) -> None:
    value = {
        "verdict": "pass",
        "sha256": {"policy.onnx": OnnxPolicy(folder / "policy.onnx").sha256},
    }
    (folder / "certificate.json").write_text(json.dumps({**value, **changes}))


def test_content_of_equal_size_and_time_is_noticed(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trpo_deploy.serve.models.source._RACY_NS", 0)  # the stamp has to tell
    publishing.write("cart")
    publisher = publishing.start()
    look(publisher)
    file = publishing.models / "cart" / "policy.onnx"
    status = file.stat()
    other = write_policy(publishing.models / "other.tmp", seed=1).read_bytes()
    assert len(other) == status.st_size
    with file.open("r+b") as opened:
        opened.write(other)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert list(look(publisher).versions) == [version_of(file)]


def test_a_change_that_no_stamp_shows_is_noticed_for_two_seconds(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing.write("cart")
    publisher = publishing.start()
    monkeypatch.setattr(module, "file_stamp", lambda _: ((1, time.time_ns()),))
    look(publisher)
    frozen = ((1, time.time_ns()),)
    monkeypatch.setattr(module, "file_stamp", lambda _: frozen)
    look(publisher)
    version = publishing.write("cart", seed=1)
    assert list(look(publisher).versions) == [version]


def test_unchanged_content_is_not_tried_again_and_makes_no_new_view(
    publishing: Publishing,
) -> None:
    publishing.write("cart")
    publisher = publishing.start()
    look(publisher)
    os.utime(publishing.models / "cart" / "policy.onnx")
    look(publisher)
    assert publisher.view.generation == 1
    assert View.read(publishing.store) == publisher.view


def test_a_link_that_moves_is_a_replacement(publishing: Publishing) -> None:
    versions = [
        version_of(write_policy(publishing.models / "releases" / v / "policy.onnx", seed=seed))
        for seed, v in enumerate(("v1", "v2"))
    ]
    link, new = publishing.models / "live", publishing.models / "new"
    link.symlink_to("releases/v1")
    publisher = publishing.start(link)
    assert list(look(publisher, "live").versions) == versions[:1]
    new.symlink_to("releases/v2")
    new.rename(link)
    assert list(look(publisher, "live").versions) == versions[1:]


def test_a_config_map_that_changes_is_a_replacement(publishing: Publishing) -> None:
    volume = publishing.models / "cart"
    versions = []
    for seed, name in enumerate(("..2024_01", "..2024_02")):
        versions.append(version_of(write_policy(volume / name / "policy.onnx", seed=seed)))
        certify(volume / name)
    (volume / "..data").symlink_to("..2024_01")
    for file in ("policy.onnx", "certificate.json"):
        (volume / file).symlink_to(f"..data/{file}")
    publisher = publishing.start(volume)
    assert list(look(publisher).versions) == versions[:1]
    (volume / "..data_tmp").symlink_to("..2024_02")
    (volume / "..data_tmp").rename(volume / "..data")
    view = look(publisher)
    assert (list(view.versions), view.status) == (versions[1:], "ready")


def test_a_path_with_a_colon_is_served(publishing: Publishing) -> None:
    file = write_policy(publishing.models / "a:b" / "cart" / "policy.onnx")
    publisher = publishing.start(file.parent)
    assert look(publisher).status == "ready"


def test_deleted_models_keep_their_last_good_copy(publishing: Publishing) -> None:
    version = publishing.write("cart")
    publisher = publishing.start()
    look(publisher)
    shutil.rmtree(publishing.models)
    view = look(publisher)
    assert (view.status, list(view.versions)) == ("stale", [version])
    (key,) = view.versions.values()
    assert version_of(publishing.store / key / "policy.onnx") == version
    publishing.models.mkdir()
    publishing.write("cart")
    assert look(publisher).status == "ready"


def test_a_bad_model_that_is_removed_is_forgotten(publishing: Publishing) -> None:
    publishing.write("good")
    publishing.write("bad")
    (publishing.models / "bad" / "policy.onnx").write_bytes(b"nothing")
    publisher = publishing.start()
    assert look(publisher, "bad").status == "failed"
    shutil.rmtree(publishing.models / "bad")
    publisher.look()
    assert list(publisher.view.models) == ["good"]


def test_numbered_versions_can_take_the_place_of_a_file(publishing: Publishing) -> None:
    version = publishing.write("cart")
    publisher = publishing.start()
    look(publisher)
    (publishing.models / "cart" / "policy.onnx").unlink()
    new = write_policy(publishing.models / "cart" / "1" / "policy.onnx", seed=1)
    good = new.read_bytes()
    new.write_bytes(b"nothing")
    view = look(publisher)
    assert (view.status, list(view.versions)) == ("stale", [version])
    new.write_bytes(good)
    view = look(publisher)
    assert (view.status, list(view.versions)) == ("ready", ["1"])


def test_content_that_nobody_uses_is_removed_later(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing.write("cart")
    publisher = publishing.start()
    (old,) = look(publisher).versions.values()
    publishing.write("cart", seed=1)
    (new,) = look(publisher).versions.values()
    assert (publishing.store / old).is_dir()
    monkeypatch.setattr(module, "_KEEP_S", -1)
    publisher.look()
    assert not (publishing.store / old).exists()
    assert (publishing.store / new / "policy.onnx").is_file()


def test_a_trial_that_hangs_is_ended(publishing: Publishing) -> None:
    """SIGSTOP stands for whatever may hang."""
    publishing.write("cart")
    publisher = publishing.start(trial_seconds=1)
    look(publisher)
    (child,) = publishing.trials
    child.send_signal(signal.SIGSTOP)
    version = publishing.write("cart", seed=1)
    view = look(publisher)
    assert "longer than 1 s" in (view.error or "")
    assert view.status == "stale"
    assert wait_until(lambda: not child.is_running())
    assert publisher.load("cart").error is None
    assert list(publisher.view.models["cart"].versions) == [version]


def test_a_trial_that_crashes_is_the_error_of_its_file(publishing: Publishing) -> None:
    publishing.write("a")
    publishing.write("b")
    publisher = publishing.start()
    publisher.look()
    (child,) = publishing.trials
    child.send_signal(signal.SIGSTOP)
    publishing.write("a", seed=1)
    version = publishing.write("b", seed=1)
    child.send_signal(signal.SIGKILL)
    child.send_signal(signal.SIGCONT)
    publisher.look()
    assert publisher.load("a").error is None  # whether it was noticed before or during the trial
    assert list(publisher.view.models["b"].versions) == [version]


def test_the_child_ends_with_its_parent_and_when_it_is_idle(
    publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishing.write("cart")
    publisher = publishing.start()
    look(publisher)
    (child,) = publishing.trials
    monkeypatch.setattr("trpo_deploy.serve.models.trial._IDLE_S", -1)
    publisher.look()
    assert wait_until(lambda: not child.is_running())


@pytest.mark.parametrize("required", [None, True])
@pytest.mark.parametrize("damage", ["none", "of another file", "failed"])
def test_a_certified_model_is_not_replaced_by_an_uncertified_one(
    publishing: Publishing, required: bool | None, damage: str
) -> None:
    version = publishing.write("cart")
    folder = publishing.models / "cart"
    certify(folder)
    publisher = publishing.start(require_certificate=required)
    assert look(publisher).status == "ready"
    replace_policy(folder / "policy.onnx", seed=1)
    if damage == "none":
        (folder / "certificate.json").unlink()
    elif damage == "failed":
        certify(folder, verdict="fail")
    view = look(publisher)
    assert (view.status, list(view.versions)) == ("stale", [version])
    assert "certif" in (view.error or "") or "trained policy" in (view.error or "")
    certify(folder)
    assert look(publisher).status == "ready"


def test_a_new_version_of_a_certified_model_needs_a_certificate(publishing: Publishing) -> None:
    folder = publishing.models / "ant"
    write_policy(folder / "1" / "policy.onnx")
    certify(folder / "1")
    publisher = publishing.start()
    look(publisher, "ant")
    write_policy(folder / "2" / "policy.onnx", seed=1)
    view = look(publisher, "ant")
    assert (view.status, list(view.versions)) == ("stale", ["1"])
    certify(folder / "2")
    assert list(look(publisher, "ant").versions) == ["1", "2"]


@pytest.mark.parametrize(
    ("required", "certified", "status"),
    [
        (True, False, "failed"),
        (True, True, "ready"),
        (None, False, "ready"),
        (False, False, "ready"),
    ],
)
def test_a_first_load_needs_a_certificate_on_request(
    publishing: Publishing, required: bool | None, certified: bool, status: str
) -> None:
    publishing.write("cart")
    if certified:
        certify(publishing.models / "cart")
    assert look(publishing.start(require_certificate=required)).status == status


def test_without_the_requirement_an_uncertified_model_replaces_a_certified_one(
    publishing: Publishing,
) -> None:
    publishing.write("cart")
    certify(publishing.models / "cart")
    publisher = publishing.start(require_certificate=False)
    look(publisher)
    (publishing.models / "cart" / "certificate.json").unlink()
    version = publishing.write("cart", seed=1)
    view = look(publisher)
    assert (view.status, list(view.versions)) == ("ready", [version])


def test_a_start_is_refused_only_if_nothing_can_be_served(
    publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    publishing.write("bad")
    file = publishing.models / "bad" / "policy.onnx"
    file.write_bytes(b"nothing")
    with pytest.raises(ServeError, match="ONNX file"):
        publishing.start().open()
    publishing.write("worse")
    (publishing.models / "worse" / "policy.onnx").write_bytes(b"")
    with pytest.raises(ServeError, match="none of the 2 models"):
        publishing.start().open()
    publishing.write("good")
    caplog.clear()
    publisher = publishing.start()
    publisher.open()
    assert publisher.view.models["good"].status == "ready"
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "model bad",
        "model worse",
    ]


def test_a_given_path_that_is_wrong_is_refused_at_the_start(
    publishing: Publishing, tmp_path: Path
) -> None:
    publishing.write("good")
    (tmp_path / "empty").mkdir()
    for path, words in {
        publishing.models / "nothing": "does not exist",
        tmp_path / "empty": "has no policy.onnx",
        write_policy(publishing.models / "two words" / "policy.onnx").parent: "rename the folder",
        write_policy(tmp_path / "other" / "good" / "policy.onnx"): "rename one folder",
    }.items():
        with pytest.raises(ServeError, match=words):
            publishing.start(publishing.models / "good", path).open()
