"""What ``bundle`` refuses, in one line and without leaving anything behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.command import run_cli
from tests.runtime.policy_files import write_policy
from trpo_deploy.serve.bundles.kubernetes.models import CONFIG_MAP_BYTES
from trpo_deploy.serve.bundles.names import dns_label, dns_labels
from trpo_deploy.serve.bundles.table import TARGETS

TARGET_NAMES = [*TARGETS]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("model") / "cart" / "policy.onnx").parent


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_a_model_that_does_not_exist(target: str, tmp_path: Path) -> None:
    run = run_cli("bundle", tmp_path / "none", "--target", target, "-o", tmp_path / "out")
    run.assert_one_clear_line("none does not exist", "give a model folder or a policy.onnx")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_an_output_that_exists(target: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    run = run_cli("bundle", model, "--target", target, "-o", tmp_path / "out")
    run.assert_one_clear_line("out exists; choose another folder with -o")
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_output_below_a_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    run = run_cli("bundle", model, "--target", "triton", "-o", tmp_path / "file" / "out")
    run.assert_one_clear_line("cannot write", f"{tmp_path / 'file'} is a file, not a folder")


def test_an_output_that_is_a_link_to_nothing(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "none")
    run = run_cli("bundle", model, "--target", "triton", "-o", tmp_path / "out")
    run.assert_one_clear_line("out exists; choose another folder with -o")
    assert (tmp_path / "out").is_symlink()


def test_an_output_with_a_name_that_is_too_long(model: Path, tmp_path: Path) -> None:
    run = run_cli("bundle", model, "--target", "triton", "-o", tmp_path / ("x" * 300))
    run.assert_one_clear_line("cannot write", "File name too long")
    assert not [*tmp_path.iterdir()]


def test_a_disk_that_gets_full(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for number, module in enumerate(("shutil.copyfile", "shutil.copytree")):
        with monkeypatch.context() as patch:
            patch.setattr(module, copy)
            output = tmp_path / str(number) / "out"
            run = run_cli("bundle", model, "--target", "triton", "-o", output)
        run.assert_one_clear_line(f"cannot write {output}: No space left on device")
        assert not output.exists()


def test_an_unknown_target(model: Path, tmp_path: Path) -> None:
    run = run_cli("bundle", model, "--target", "nomad", cwd=tmp_path)
    run.assert_one_clear_line(
        "unknown target 'nomad'; expected one of bento, kubernetes, kserve, triton"
    )


def test_a_place_of_models_that_the_target_does_not_offer(model: Path, tmp_path: Path) -> None:
    run = run_cli("bundle", model, "--target", "triton", "--models-from", "image", cwd=tmp_path)
    run.assert_one_clear_line("--models-from image does not apply to the target triton")
    run = run_cli("bundle", model, "--target", "kubernetes", "--models-from", "nfs", cwd=tmp_path)
    run.assert_one_clear_line("nfs", "expected one of image, volume, configmap")
    assert not [*tmp_path.iterdir()]


def test_a_model_that_no_config_map_can_hold(tmp_path: Path) -> None:
    file = write_policy(tmp_path / "large" / "policy.onnx")
    graph = onnx.load(str(file))
    # Random numbers, since weights cannot be compressed either.
    rows = np.random.default_rng(0).random(CONFIG_MAP_BYTES // 8)
    graph.graph.initializer.append(numpy_helper.from_array(rows, "unused"))
    onnx.save(graph, str(file))
    arguments = ("--target", "kubernetes", "--models-from", "configmap", "-o", tmp_path / "out")
    run = run_cli("bundle", file.parent, *arguments)
    run.assert_one_clear_line("model large has ", f"expected at most {CONFIG_MAP_BYTES}")
    assert not (tmp_path / "out").exists()


def test_the_default_folder_is_named_by_the_target(model: Path, tmp_path: Path) -> None:
    run = run_cli("bundle", model, "--target", "triton", cwd=tmp_path)
    assert run.code == 0, run.error
    assert (tmp_path / "triton" / "cart" / "1" / "model.onnx").is_file()
    assert [each.name for each in tmp_path.iterdir()] == ["triton"]


def test_names_of_objects_are_dns_labels_and_differ() -> None:
    assert dns_label("My Bento_2") == "my-bento-2"
    assert dns_label("3 robots") == "policies-3-robots"
    assert dns_label("...") == "policies"
    # The target's name, and so the default folder: the Service of the cluster's API has it.
    assert dns_label("kubernetes") == dns_label("Kubernetes_") == "policies-kubernetes"
    assert dns_label("kubernetes-2") == "kubernetes-2"
    assert len(dns_label("x" * 200)) <= 40
    labels = dns_labels(["Ant-v5", "ant_v5", "ant.v5"])
    assert labels["Ant-v5"] == "ant-v5"
    assert len({*labels.values()}) == 3
