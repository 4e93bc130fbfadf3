"""What the targets ``unity`` and ``godot`` have in common."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from gymnasium import spaces

from tests.command import run_cli
from tests.export.policies import BOX, make_model, save
from tests.export.targets.games import NAME, content, write_folder
from tests.export.targets.onnxruntime_1_15 import run_in_old_onnxruntime
from tests.export.targets.programs import KINDS, make
from trpo_deploy.errors import ExportError
from trpo_deploy.export import TargetOptions, export_file
from trpo_deploy.export.certify.engines import load_onnxruntime
from trpo_deploy.export.targets.folder import TargetFolder
from trpo_deploy.export.targets.games.actions import GameRange
from trpo_deploy.export.targets.target import target_module
from trpo_deploy.spec.policy_spec import TensorSpec
from trpo_deploy.spec.spaces import BoxSpace

ENGINES = ("unity", "godot")
REFUSED = {("unity", "float64"), ("godot", "float64"), ("godot", "action box unbounded")}
QUICK = ("--steps", 50, "--seconds", 0)


def inputs_of(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            each.name, "float32", tuple(d.dim_value for d in each.type.tensor_type.shape.dim)[1:]
        )
        for each in model.graph.input
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ENGINES)
def test_every_policy_gives_the_same_actions_through_the_contract(
    target: str, kind: str, tmp_path: Path
) -> None:
    if (target, kind) in REFUSED:
        with pytest.raises(ExportError, match=r"float64-input|infinite bounds"):
            write_folder(target, tmp_path, **KINDS[kind])
        assert not (tmp_path / target).exists()
        return
    folder = write_folder(target, tmp_path, verify=True, **KINDS[kind])
    certificate = json.loads((folder / "certificate.json").read_text())
    (check,) = certificate["checks"]
    assert (check["name"], check["passed"]) == (f"policy.onnx, {target} contract", True)
    assert check["measured"]["rows"] > 100
    model = onnx.load_model_from_string(content(folder))
    assert all(
        each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for each in model.graph.input
    )
    assert not model.metadata_props  # it is not a policy.onnx, whose inputs are others


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        *("normalised", "action multi discrete", "observation dict", "guarded stack", "squashed"),
        *("layer norms", "extractor with layer norms"),
    ],
)
@pytest.mark.parametrize("target", ENGINES)
def test_onnxruntime_1_15_gives_the_same_numbers(target: str, kind: str, tmp_path: Path) -> None:
    folder = write_folder(target, tmp_path, **KINDS[kind])
    inputs = inputs_of(onnx.load_model_from_string(content(folder)))
    rng = np.random.default_rng(0)
    feeds = {each.name: rng.uniform(size=(7, *each.shape)).astype(np.float32) for each in inputs}
    expected = load_onnxruntime(content(folder), inputs).run(feeds)
    found = run_in_old_onnxruntime(folder / f"{NAME}.onnx", feeds, tmp_path)
    assert {*found} == {*expected}
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        # Two releases order their sums differently: a few units in the last place.
        np.testing.assert_allclose(found[name], array, rtol=0, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("target", ENGINES)
def test_a_trained_policy_gets_a_certificate_with_the_contract(target: str, tmp_path: Path) -> None:
    save(make_model(action_space=spaces.Discrete(3)), tmp_path / "Model")
    done = run_cli("export", "Model", "--target", target, *QUICK, cwd=tmp_path)
    assert done.code == 0, done.error
    folder = tmp_path / "Model" / target
    assert {path.name for path in folder.iterdir()} == {
        *("model.onnx", "README.md", "policy.json", "golden.json", "certificate.json")
    }
    checks = json.loads((folder / "certificate.json").read_text())["checks"]
    rows = [each["measured"] for each in checks if f"{target} contract" in each["name"]]
    assert len(rows) == 2  # ordinary observations and edges
    assert all(each["mismatches_not_explained_by_a_tie"] == 0 for each in rows)
    assert run_cli("verify", "Model", f"Model/{target}", *QUICK, cwd=tmp_path).code == 0
    save(make_model(action_space=spaces.Discrete(3), seed=1), tmp_path / "Other")
    done = run_cli("verify", "Other", f"Model/{target}", *QUICK, cwd=tmp_path)
    assert done.code == 1
    assert "NOT the same policy" in done.output


@pytest.mark.parametrize("target", ENGINES)
@pytest.mark.parametrize(("low", "high"), [(-0.4, 0.1), (0, 1e4), (-5, 1e6)])
def test_the_certificate_knows_how_a_range_rounds(
    target: str, low: float, high: float, tmp_path: Path
) -> None:
    run = save(make_model(action_space=spaces.Box(low, high, (2,))), tmp_path / "M")
    export = ("export", run.policy_zip, "--target", target, "-o", tmp_path / target, *QUICK)
    done = run_cli(*export)
    assert done.code == 0, done.error
    spec = TargetFolder.read(tmp_path / target).spec
    engine = target_module(target).load(tmp_path / target, "m", spec)
    assert 0 < engine.action_rounding < 5e-6 * (high - low)


@pytest.mark.parametrize("target", ENGINES)
def test_a_wrong_file_in_the_folder_is_one_line(target: str, tmp_path: Path) -> None:
    folder = write_folder(target, tmp_path)
    policy = tmp_path / "model" / "policy.onnx"
    (folder / f"{NAME}.onnx").write_bytes(policy.read_bytes())
    run_cli("verify", policy, folder).assert_one_clear_line("would not take the file")
    (folder / f"{NAME}.onnx").write_bytes(b"no model")
    run_cli("verify", policy, folder).assert_one_clear_line("cannot be loaded")
    (folder / f"{NAME}.onnx").unlink()
    run_cli("verify", policy, folder).assert_one_clear_line("cannot read")


def test_a_finished_file_needs_no_torch(tmp_path: Path) -> None:
    onnx_path = make(tmp_path / "model", action_space=spaces.Discrete(3))
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from trpo_deploy.export.targets.export import TargetOptions, export_file\n"
        "for target in ('unity', 'godot'):\n"
        f"    to = TargetOptions(target, Path({str(tmp_path)!r}, target), 'pol')\n"
        f"    assert export_file(Path({str(onnx_path)!r}), to, verify=True).certificate.passed\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=240)


@pytest.mark.parametrize("target", ENGINES)
def test_a_game_file_is_not_a_policy_file(target: str, tmp_path: Path) -> None:
    folder = write_folder(target, tmp_path)
    done = run_cli("inspect", folder / f"{NAME}.onnx")
    done.assert_one_clear_line("metadata")


@pytest.mark.parametrize("target", ENGINES)
def test_a_guarded_file_gives_the_safe_action_for_a_broken_sensor(
    target: str, tmp_path: Path
) -> None:
    for action_space, safe in (
        (spaces.Box(np.array([0.25, -1], np.float32), np.ones(2, np.float32)), [0.25, 0.0]),
        (spaces.MultiDiscrete([3, 2], start=[5, -1]), [5, -1]),
        (spaces.MultiBinary(3), [0, 0, 0]),
    ):
        folder = write_folder(
            target,
            tmp_path / str(action_space.dtype),
            action_space=action_space,
            options={"guard": True},
        )
        spec = TargetFolder.read(folder).spec
        engine = target_module(target).load(folder, NAME, spec)
        rows = np.array([[np.nan, 0, 0], [0, -np.inf, 0]], np.float32)
        # 0.25 is the end of a range whose centre is 0.625: one unit in the last place
        np.testing.assert_allclose(engine.run({"obs": rows})["action"], [safe, safe], atol=1e-7)


@pytest.mark.parametrize("target", ENGINES)
def test_a_folder_from_a_guarded_file_is_verified_against_the_zip(
    target: str, tmp_path: Path
) -> None:
    save(make_model(), tmp_path / "M")
    onnx_path = tmp_path / "M" / "policy.onnx"
    assert run_cli("export", tmp_path / "M", "--guard", "--no-verify").code == 0
    assert run_cli("export", onnx_path, "--target", target, "-o", tmp_path / target).code == 0
    done = run_cli("verify", tmp_path / "M", tmp_path / target, "--verbose", *QUICK)
    assert done.code == 0, done.output + done.error
    assert f"{target} contract" in done.output


@pytest.mark.parametrize("target", ENGINES)
@pytest.mark.parametrize(
    "key",
    ["action", "obs_0", "policy", "center", "other/shape", "/parameters", "a b|`c", "ключ 🙂"],
)
def test_any_key_of_an_observation_is_held(target: str, key: str, tmp_path: Path) -> None:
    kind: dict[str, Any] = {
        "observation_space": spaces.Dict({key: BOX, "other": BOX}),
        "policy": "MultiInputPolicy",
        "action_space": spaces.Box(-2, 2, (3,)),  # its scaling adds more tensors
    }
    write_folder(target, tmp_path / "plain", verify=True, **kind)
    write_folder(target, tmp_path / "stacked", verify=True, frames=3, **kind)


@pytest.mark.parametrize("target", ENGINES)
def test_integers_that_float32_rounds_are_refused(target: str, tmp_path: Path) -> None:
    largest = 2**24
    for high in (largest, largest + 1):
        space = spaces.Box(0, high, (2,), np.int64)
        onnx_path = make(tmp_path / str(high), observation_space=space, statistics={})
        to = ("export", onnx_path, "--target", target, "-o", tmp_path / f"{target}{high}")
        done = run_cli(*to)
        if high == largest:
            assert done.code == 0, done.error
        else:
            done.assert_one_clear_line("'obs'", "whole numbers up to 16777216", "16777217")
            assert not (tmp_path / f"{target}{high}").exists()


@pytest.mark.parametrize(("target", "newest"), [("unity", 15), ("godot", 19)])
def test_an_opset_that_the_engine_cannot_read_is_refused(
    target: str, newest: int, tmp_path: Path
) -> None:
    for opset in (newest, newest + 1):
        onnx_path = make(
            tmp_path / str(opset), action_space=spaces.Discrete(3), options={"opset": opset}
        )
        to = TargetOptions(target, tmp_path / f"{target}{opset}", NAME)
        if opset == newest:
            export_file(onnx_path, to, verify=True)
        else:
            with pytest.raises(ExportError, match=f"up to {newest} and the file has {opset}"):
                export_file(onnx_path, to, verify=True)


@pytest.mark.parametrize("target", ENGINES)
def test_files_of_format_1_become_game_files(target: str, tmp_path: Path) -> None:
    old = Path(__file__).parents[2] / "fixtures" / "format-1" / "policy.onnx"
    export_file(old, TargetOptions(target, tmp_path / target, NAME), verify=True)


@pytest.mark.parametrize("target", ENGINES)
def test_the_file_has_no_weights_that_its_outputs_do_not_need(target: str, tmp_path: Path) -> None:
    kind: dict[str, Any] = {"action_space": spaces.Discrete(3)}
    small = len(content(write_folder(target, tmp_path / "small", **kind)))
    options = {"outputs": ("value", "log_prob", "logits")}
    assert len(content(write_folder(target, tmp_path / "all", options=options, **kind))) == small


def test_the_range_of_a_game_is_exact_for_simple_bounds_and_close_for_all() -> None:
    rng = np.random.default_rng(0)
    for low, high in ((-1, 1), (-2, 2), (0, 1), (-0.4, 0.4), (1000, 1001), (-3, 0.1), (2, 2)):
        box = BoxSpace(np.full(500, low, np.float64), np.full(500, high, np.float64))
        to = GameRange.of(box)
        actions = rng.uniform(low, high, 500).astype(np.float32)
        values = (actions - to.center) / np.where(to.half > 0, to.half, 1)
        assert np.abs(values).max() <= 1 + 2e-7
        back = to.to_environment(values)
        exact = low in (-1, -2, 2)
        tolerance = 0 if exact else to.rounding
        np.testing.assert_allclose(back, actions, rtol=0, atol=tolerance)
        assert to.is_identity == (low == -1)
    endless = BoxSpace(np.array([-np.inf, 0, -1e300]), np.array([1, np.inf, 1e300]))
    assert GameRange.of(endless).is_identity
    assert not GameRange.of(endless).bounded.any()


@pytest.mark.parametrize("target", ENGINES)
def test_the_readme_tells_names_sizes_and_the_mapping(target: str, tmp_path: Path) -> None:
    names = tmp_path / "names.yaml"
    names.write_text(
        "period: 0.02\n"
        "observation: {obs: [{name: 'a|b', unit: m}, speed, angle]}\n"
        "action: [hip, {name: knee, unit: 2 N m}]\n"
    )
    low, high = np.array([-2, 0], np.float32), np.array([2, 1], np.float32)
    folder = write_folder(
        target, tmp_path, action_space=spaces.Box(low, high), options={"names": names}
    )
    text = (folder / "README.md").read_text()
    for part in (
        *(
            "| 0 | a\\|b | m |",
            "| 1 | speed |  |",
            "0.02 s" if target == "unity" else "sync.gd by 50, for 0.02 s",
        ),
        *("| 0 | hip |  | -2 for -1, 2 for 1 |", "| 1 | knee | 2 N m | 0 for -1, 1 for 1 |"),
        *(
            ("Center = { 0.0f, 0.5f }", "Half = { 2.0f, 0.5f }", "class PolAgent")
            if target == "unity"
            else ("CENTER := [0.0, 0.5]", "HALF := [2.0, 0.5]", '"size": 2')
        ),
    ):
        assert part in text


@pytest.mark.parametrize(
    ("period", "says"),
    [
        (0.02, "| 1 (the action lasts 0.02 s, Fixed Timestep is 0.02 s) |"),
        (0.06, "| 3 (the action lasts 0.06 s, Fixed Timestep is 0.02 s) |"),
        (0.008, "| 1, and 0.008 s as Fixed Timestep (Project Settings > Time) |"),
        (0.5, "| 1, and 0.5 s as Fixed Timestep (Project Settings > Time) |"),
    ],
)
def test_the_decision_period_is_one_that_unity_takes(
    period: float, says: str, tmp_path: Path
) -> None:
    """Unity takes whole numbers from 1 to 20."""
    names = tmp_path / "names.yaml"
    names.write_text(f"period: {period}\n")
    folder = write_folder("unity", tmp_path, options={"names": names})
    assert f"| Decision Requester | Decision Period {says}" in (folder / "README.md").read_text()


@pytest.mark.parametrize("target", ENGINES)
def test_the_readme_of_discrete_actions_tells_values_and_starts(
    target: str, tmp_path: Path
) -> None:
    space = spaces.MultiDiscrete([3, 2], start=[5, 0])
    text = (write_folder(target, tmp_path, action_space=space) / "README.md").read_text()
    assert "| 0 |  | 0 to 2 | 5 to 7 |" in text
    assert "+ (5); // the environment's" in text or "+ (5) # the environment's" in text
