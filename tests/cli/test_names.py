"""``trpo-deploy names`` and ``export --names``: names and units, from a template to the file."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.command import run_cli, run_process
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.runtime import OnnxPolicy


def test_the_template_of_a_model_has_what_the_environment_tells(model: ModelDir) -> None:
    run = run_cli("names", model.root)
    assert run.code == 0, run.error
    for line in (
        "period: 0.02  # seconds between two actions",
        '    - {name: "pole.angle", unit: "rad"}  # -0.418879 to 0.418879',
        '  - {name: "push left", unit: null}  # action 0',
        "safe_action: null",
    ):
        assert line in run.output


def test_the_template_of_a_file_is_that_of_its_model_and_needs_no_torch(model: ModelDir) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'stable_baselines3', 'onnx', 'gymnasium', 'bentoml'):\n"
        "    sys.modules[name] = None\n"
        "from trpo_deploy.cli.app import main\n"
        "main()"
    )
    run = run_process("names", model.onnx, command=(sys.executable, "-c", code))
    assert run.output == run_cli("names", model.root).output, run.error


def test_an_edited_template_is_in_the_exported_file(model: ModelDir, tmp_path: Path) -> None:
    names, onnx = tmp_path / "names.yaml", tmp_path / "policy.onnx"
    run = run_cli("names", model.root, "-o", names)
    assert f"wrote {names}" in run.output, run.error
    text = names.read_text()
    for old, new in (("0.02 ", "0.01 "), ('"push left"', '"west"'), ("action: null", "action: 1")):
        assert old in text
        text = text.replace(old, new)
    names.write_text(text)
    run = run_cli("export", model.root, "-o", onnx, "--names", names, "--steps", 50)
    assert run.code == 0, run.error
    assert "certificate: the same policy" in run.output
    spec = OnnxPolicy(onnx).spec
    assert [each.name for each in spec.action_components] == ["west", "push right"]
    assert spec.period == 0.01
    assert spec.safe_action == 1
    run = run_cli("inspect", onnx)
    for words in (
        "period  0.01 s (100 Hz)",
        "safe    action 1",
        "pole.angular_velocity  rad/s",
        "west",
    ):
        assert words in run.output, run.output
    shown = json.loads(run_process("inspect", onnx, "--json").output)
    assert shown["period"] == 0.01
    assert shown["action_components"] == {"names": ["west", "push right"], "units": [None, None]}
    assert shown["observation_components"]["obs"]["names"][0] == "cart.position"
    assert "`pole.angular_velocity`" in onnx.with_suffix(".md").read_text()
    again = run_cli("names", onnx)
    assert read_yaml(names)["action"][0]["name"] == "west"
    assert again.output == text


def test_names_are_not_written_over_a_file(model: ModelDir, tmp_path: Path) -> None:
    names = tmp_path / "names.yaml"
    names.write_text("action: [edited]")
    run_cli("names", model.root, "-o", names).assert_one_clear_line(str(names), "-o")
    assert names.read_text() == "action: [edited]"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("action: [left, left]", "the action has the name 'left' twice"),
        ("action: [left]", "the action needs 2 names, received 1"),
        ("observation: {obs: [a, b, c]}", "the observation 'obs' needs 4 names, received 3"),
        ("period: 0", "the period is 0"),
        ("safe_action: 2", "the safe action is 2, expected integers in [0, 1]"),
    ],
)
def test_a_file_that_does_not_fit_is_one_clear_line(
    model: ModelDir, tmp_path: Path, text: str, says: str
) -> None:
    names, onnx = tmp_path / "names.yaml", tmp_path / "policy.onnx"
    names.write_text(text)
    run = run_cli("export", model.root, "-o", onnx, "--names", names)
    run.assert_one_clear_line(str(names), says)
    assert list(tmp_path.iterdir()) == [names]


def test_a_missing_file_is_one_clear_line(model: ModelDir, tmp_path: Path) -> None:
    run = run_cli("export", model.root, "-o", tmp_path / "x.onnx", "--names", tmp_path / "no.yaml")
    run.assert_one_clear_line("cannot read", "no.yaml")
    run_cli("names", tmp_path / "no.onnx").assert_one_clear_line("no.onnx")
    run_cli("names", tmp_path / "nothing").assert_one_clear_line("nothing")


def test_a_bare_zip_has_a_template_too(model: ModelDir, tmp_path: Path) -> None:
    shutil.copy(model.policy_zip, tmp_path / "policy.zip")
    run = run_cli("names", tmp_path / "policy.zip")
    assert "period: null" in run.output, run.error
    run = run_cli("names", tmp_path / "policy.zip", "--env", "CartPole-v1")
    assert "period: 0.02" in run.output, run.error
