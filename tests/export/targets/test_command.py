"""``trpo-deploy export --target`` and ``verify`` of a folder, and what they refuse."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from tests.command import run_cli
from tests.export.policies import make_model, save
from tests.export.targets.programs import KINDS, make
from tests.runtime.policy_files import box, change_spec, write_policy
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import DictSpace

QUICK = ("--steps", 50, "--seconds", 0)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("Some Model-v1") / "policy.onnx", hidden=4)


def test_a_trained_policy_gets_a_certificate_of_its_c(tmp_path: Path) -> None:
    save(make_model(), tmp_path / "My Model")
    done = run_cli("export", "My Model", "--target", "c", *QUICK, cwd=tmp_path)
    assert done.code == 0, done.error
    folder = tmp_path / "My Model" / "c"
    files = {path.name for path in folder.iterdir()}
    assert files == {
        *("my_model.c", "my_model.h", "my_model_test.c", "README.md"),
        *("my_model_controller.c", "my_model_controller.h"),
        *("policy.json", "golden.json", "certificate.json"),
    }
    certificate = json.loads((folder / "certificate.json").read_text())
    engines = {check["name"] for check in certificate["checks"] if "c99 (" in check["name"]}
    assert len(engines) == 2  # ordinary observations and edges
    assert {"policy.zip", "policy.onnx", "my_model.c", "golden.json"} <= {*certificate["sha256"]}
    done = run_cli("verify", "My Model", "My Model/c", *QUICK, cwd=tmp_path)
    assert done.code == 0, done.output
    source = folder / "my_model.c"
    source.write_text(
        source.read_text().replace("return true;", "action[0] += 0.001f; return true;")
    )
    done = run_cli("verify", "My Model", "My Model/c", *QUICK, cwd=tmp_path)
    assert done.code == 1
    assert "NOT the same policy" in done.output


def test_a_finished_file_suffices(onnx: Path, tmp_path: Path) -> None:
    done = run_cli("export", onnx, "--target", "c", cwd=tmp_path)
    assert done.code == 0, done.error
    assert "1 check passed: 268 observations" in done.output
    folder = tmp_path / "Some Model-v10-c"
    assert (folder / "some_model_v10.h").is_file()
    verified = run_cli("verify", onnx, folder)
    assert verified.code == 0
    assert re.match(
        r"certificate: the same as policy.onnx; 1 check passed: \d{3} obs", verified.output
    )
    missing = run_cli("verify", onnx, tmp_path / "missing")
    missing.assert_one_clear_line("missing does not exist", "folder of a target")
    policy = json.loads((folder / "policy.json").read_text())
    assert (
        PolicySpec.from_json(json.dumps(policy["spec"])).to_json()
        == OnnxPolicy(onnx).spec.to_json()
    )
    golden = json.loads((folder / "golden.json").read_text())
    for observation, action in zip(golden["observations"], golden["actions"], strict=True):
        found, _ = OnnxPolicy(onnx).predict(observation)
        np.testing.assert_array_equal(found, np.float32(action))


def test_a_finished_file_needs_no_torch(onnx: Path, tmp_path: Path) -> None:
    arguments = ["export", str(onnx), "--target", "c", "-o", str(tmp_path / "c")]
    missing = ("torch", "stable_baselines3", "gymnasium", "yaml")
    code = (
        f"import sys; sys.modules |= dict.fromkeys({missing})\n"
        f"sys.argv = ['trpo-deploy', *{arguments}]\n"
        "from trpo_deploy.cli.app import main; main()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=240)


def test_force_replaces_the_files_of_an_export_and_no_others(onnx: Path, tmp_path: Path) -> None:
    export = ("export", onnx, "--target", "c", "--no-verify", "-o", tmp_path / "c")
    assert run_cli(*export, "--name", "first").code == 0
    (tmp_path / "c" / "main.c").write_text("mine")
    run_cli(*export, "--name", "second").assert_one_clear_line("is not empty", "--force")
    assert run_cli(*export, "--name", "second", "--force").code == 0
    files = {path.name for path in (tmp_path / "c").iterdir()}
    assert {"main.c", "second.c"} <= files
    assert not any(name.startswith("first") for name in files)
    (tmp_path / "c" / "policy.json").unlink()
    done = run_cli(*export, "--name", "second", "--force")
    done.assert_one_clear_line("c/second.h is not of an earlier export")


def test_force_never_replaces_the_files_of_a_model(onnx: Path, tmp_path: Path) -> None:
    save(make_model(), tmp_path)
    (tmp_path / "README.md").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = run_cli("export", onnx, "--target", "c", "--no-verify", "--force", "-o", tmp_path)
    done.assert_one_clear_line("README.md is not of an earlier export")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--target", "nosuch"), ("unknown target 'nosuch'", "onnx, c")),
        (("--target", "c", "--name", "2fast"), ("'2fast'", "identifier")),
        (("--target", "c", "--name", "while"), ("'while'", "keyword")),
        (("--target", "c", "--name", "Math"), ("'Math'", "math.h", "'policy_math'")),
        (("--target", "c", "--name", "a" * 60), ("identifier",)),
        (("--target", "c", "--name", ""), ("identifier",)),
        (("--target", "c", "--guard"), ("--guard does not apply",)),
        (("--target", "c", "--add-output", "value"), ("--add-output does not apply",)),
        (("--target", "c", "--golden", "x"), ("--golden does not apply",)),
        (("--target", "c", "--vecnormalize", "x"), ("--vecnormalize does not apply",)),
        (("--target", "c", "--float64-input"), ("--float64-input does not apply",)),
        (("--name", "x"), ("--name does not apply to the target onnx",)),
        (("--force",), ("--force does not apply",)),
    ],
    ids=lambda value: str(value[-1])[:20],
)
def test_wrong_options_are_one_line_and_write_nothing(
    arguments: tuple[Any, ...], says: tuple[str, ...], onnx: Path, tmp_path: Path
) -> None:
    run_cli("export", onnx, *arguments, cwd=tmp_path).assert_one_clear_line(*says)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (("left arm", "left_arm"), "both become left_arm"),
        (("arm", "ARM"), "both become ARM"),
        (("float", "x"), "keyword"),
    ],
)
def test_keys_that_c_cannot_name_are_refused(
    keys: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    space = DictSpace({key: box(2) for key in keys})
    onnx = write_policy(tmp_path / "policy.onnx", space)
    done = run_cli("export", onnx, "--target", "c", "-o", tmp_path / "c")
    done.assert_one_clear_line(says, keys[0])
    assert not (tmp_path / "c").exists()


def test_verify_names_files_that_changed_since_the_export(onnx: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    assert run_cli("export", onnx, "--target", "c", "--name", "p", "-o", folder).code == 0
    assert "has changed" not in run_cli("verify", onnx, folder).output
    header = folder / "p.h"
    header.write_text(header.read_text() + "\n")
    done = run_cli("verify", onnx, folder)
    assert done.code == 0, done.output  # the actions are the same
    assert "open files: p.h has changed since the export" in done.output


def test_verify_names_facts_for_a_robot_that_are_not_the_policys(
    onnx: Path, tmp_path: Path
) -> None:
    policy = Path(shutil.copy(onnx, tmp_path))
    right, wrong = {"period": 0.008}, {"period": 0.002}
    change_spec(policy, **wrong)
    assert run_cli("export", policy, "--target", "c", "-o", tmp_path / "c").code == 0
    assert "another period" not in run_cli("verify", policy, tmp_path / "c").output
    change_spec(policy, **right)
    assert (
        "another period than the policy; unless --names stated it"
        in run_cli("verify", policy, tmp_path / "c").output
    )


def test_without_a_compiler_export_says_so_and_verify_refuses(
    onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    done = run_cli("export", onnx, "--target", "c", "-o", tmp_path / "c")
    assert done.code == 0, done.error
    assert "not verified" in done.output
    assert "no C compiler" in done.output
    assert not (tmp_path / "c" / "certificate.json").exists()
    run_cli("verify", onnx, tmp_path / "c").assert_one_clear_line("no C compiler", "gcc")


def test_a_folder_of_another_policy_is_refused(onnx: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", observation_space=spaces.Box(-1.0, 1.0, (5,)))
    assert run_cli("export", other, "--target", "c", "--no-verify", "-o", tmp_path / "c").code == 0
    run_cli("verify", onnx, tmp_path / "c").assert_one_clear_line("of another policy", "Box(5,)")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "has no policy.json"),
        ("{", "cannot be read"),
        ("{}", "has no entry 'target'"),
        ('{"target": "onnx"}', "its target is not one of c"),
        ('{"target": "c", "files": []}', "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"target": "c", "files": {"../x": ""}}', "other folders"),
    ],
)
def test_a_damaged_folder_is_refused(
    content: str | None, says: str, onnx: Path, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "policy.json").write_text(content)
    run_cli("verify", onnx, tmp_path).assert_one_clear_line(says)


@pytest.mark.parametrize("command", ["inspect", "evaluate", "serve", "bundle"])
def test_a_folder_of_a_target_is_told_from_a_model_folder(
    command: str, onnx: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "web"
    assert run_cli("export", onnx, "--target", "web", "-o", folder, "--no-verify").code == 0
    says = "has the files of a target, which run in its own engine; give the policy.onnx that"
    run_cli(command, folder).assert_one_clear_line(says)


def test_a_file_in_the_way_is_refused(onnx: Path, tmp_path: Path) -> None:
    (tmp_path / "c").write_text("")
    run_cli("export", onnx, "--target", "c", "-o", tmp_path / "c").assert_one_clear_line(
        "is a file"
    )


def test_a_guarded_stack_passes_the_guard_check_in_c(tmp_path: Path) -> None:
    onnx = make(tmp_path / "model", **KINDS["guarded stack"])
    assert run_cli("export", onnx, "--target", "c", "-o", tmp_path / "c").code == 0
    zip_ = onnx.with_name("policy.zip")
    done = run_cli("verify", zip_, tmp_path / "c", "--frame-stack", 3, "--verbose", *QUICK)
    assert done.code == 0, done.output
    assert "guard, c99" in done.output


def test_a_key_may_be_named_like_the_action(tmp_path: Path) -> None:
    space = DictSpace({"action": box(2), "state": box(1), "safe_action": box(1)})
    onnx = write_policy(tmp_path / "policy.onnx", space)
    done = run_cli("export", onnx, "--target", "c", "-o", tmp_path / "c")
    assert done.code == 0, done.error
