"""Whatever a folder holds is an error of that model: named once, and harmless to the others."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.runtime.policy_files import write_policy
from tests.serve.models.bad_files import BAD_FILES, write_bad_file
from trpo_deploy.serve.models.own_registry import own_registry
from trpo_deploy.serve.models.publisher import Publisher
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.settings import Settings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad")


@pytest.fixture(scope="module")
def served(root: Path) -> tuple[Registry, Publisher]:
    write_policy(root / "good" / "policy.onnx")
    return own_registry(Settings(models=(root,), max_model_bytes=2**27))


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_the_error_of_its_model_alone(
    served: tuple[Registry, Publisher], root: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    registry, publisher = served
    caplog.set_level(logging.INFO)
    write_bad_file(root, name)
    for _ in range(3):
        publisher.look()
        registry.refresh()
    assert registry.get("good").name == "good"
    entry = registry.entries[name]
    assert entry.status == "failed"
    assert BAD_FILES[name].words in (entry.error or "")
    assert "Traceback" not in caplog.text
    (line,) = [record for record in caplog.records if f"model {name}:" in record.getMessage()]
    assert "\n" not in line.getMessage()


def test_a_bad_file_that_replaces_a_good_one_leaves_the_last_good_content(
    served: tuple[Registry, Publisher], root: Path
) -> None:
    registry, publisher = served
    file = write_policy(root / "replaced" / "policy.onnx")
    publisher.look()
    registry.refresh()
    old = registry.get("replaced")
    for name in ("loop", "spec-deep", "petabyte", "folder"):
        file.unlink()
        write_bad_file(root / ".bad", name)
        (root / ".bad" / name / "policy.onnx").rename(file)
        publisher.look()
        registry.refresh()
        assert registry.get("replaced") is old
        assert registry.entries["replaced"].status == "stale"
        assert BAD_FILES[name].words in (registry.entries["replaced"].error or "")
