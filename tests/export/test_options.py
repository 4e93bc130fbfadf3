"""Options of an export: opset, float64 input, golden vectors, outputs, image layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from gymnasium import spaces
from onnx import numpy_helper
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from tests.command import run_cli
from tests.export.policies import BOX, SpaceEnv, exported, make_model, save, statistics_for
from trpo_deploy import TRPO
from trpo_deploy.errors import ExportError
from trpo_deploy.export import ExportOptions, SourceOptions, export_model, export_policy
from trpo_deploy.runtime import OnnxPolicy


@pytest.mark.parametrize("opset", [11, 12, 17, 21])
def test_the_file_has_the_opset_that_was_asked_for(opset: int, tmp_path: Path) -> None:
    model = make_model(BOX, spaces.MultiDiscrete([2, 3]), algorithm=TRPO)
    options = ExportOptions(("value", "log_prob", "margin"), opset=opset, guard=True)
    result = exported(model, tmp_path, statistics_for(BOX), options=options)
    assert onnx.load(result.path).opset_import[0].version == opset


@pytest.mark.parametrize(("opset", "says"), [(9, "Clip"), (99, "newer than the installed onnx")])
def test_an_opset_that_does_not_fit_the_policy_is_refused(
    opset: int, says: str, tmp_path: Path
) -> None:
    save(make_model(), tmp_path, statistics_for(BOX))
    run = run_cli("export", tmp_path, "--opset", opset)
    run.assert_one_clear_line(says, str(opset))
    assert not (tmp_path / "policy.onnx").exists()


def test_float64_input_keeps_what_float32_loses(tmp_path: Path) -> None:
    """In float32, an observation of 1000 ± 1e-4 keeps one significant digit of its deviation."""
    space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    model = make_model(space, spaces.Box(-9.0, 9.0, (2,)), algorithm=TRPO)
    statistics = statistics_for(space)
    rms: Any = statistics.obs_rms
    rms.mean[:], rms.var[:] = 1000.0, 1e-8
    source = save(model, tmp_path, statistics)
    observations = 1000.0 + 1e-4 * np.random.default_rng(0).normal(size=(50, 3))
    expected, _ = model.predict(statistics.normalize_obs(observations), deterministic=True)
    errors = {}
    for float64 in (False, True):
        path = tmp_path / f"{float64}.onnx"
        result = export_policy(source, path, options=ExportOptions(float64_input=float64))
        assert bool(result.warnings) != float64
        assert result.spec.inputs[0].dtype == ("float64" if float64 else "float32")
        found, _ = OnnxPolicy(path).predict(observations)
        errors[float64] = np.abs(found - expected).max()
    assert errors[True] < 1e-5 < 1e-2 < errors[False]
    run = run_cli("export", tmp_path, "-o", tmp_path / "again.onnx")
    assert "warning: rounding observations to float32 changes action" in run.output
    assert "because of obs[" in run.output
    assert "--float64-input" in run.output


def test_golden_vectors_match_the_file(tmp_path: Path) -> None:
    space = spaces.Dict({"b": BOX, "a": spaces.Discrete(3)})
    model = make_model(space, spaces.Discrete(3), "MultiInputPolicy")
    options = ExportOptions(("value",))
    result = exported(model, tmp_path, golden=tmp_path / "golden", options=options)
    assert (tmp_path / "golden" / "model.onnx").read_bytes() == result.path.read_bytes()
    session = ort.InferenceSession(tmp_path / "golden" / "model.onnx")
    for index, batch in ((0, 1), (1, 7)):
        folder = tmp_path / "golden" / f"test_data_set_{index}"

        def tensor(path: Path) -> Any:
            return numpy_helper.to_array(onnx.load_tensor(path))

        inputs = {
            each.name: tensor(folder / f"input_{number}.pb")
            for number, each in enumerate(session.get_inputs())
        }
        assert {len(array) for array in inputs.values()} == {batch}
        for number, found in enumerate(session.run(None, inputs)):
            np.testing.assert_array_equal(found, tensor(folder / f"output_{number}.pb"))


def test_the_golden_sample_of_the_certificate_matches_the_file(tmp_path: Path) -> None:
    result = exported(make_model(), tmp_path, statistics_for(BOX))
    golden = json.loads((tmp_path / "certificate.json").read_text())["golden"]
    found, _ = OnnxPolicy(result.path).predict(golden["observation"])
    np.testing.assert_array_equal(found, np.asarray(golden["action"], found.dtype))


KEYS = ("action", "value", "std", "log_prob", "obs_ok", "state_a", "next_state_a", "/x", "a")


def test_keys_with_names_of_other_tensors_are_renamed(tmp_path: Path) -> None:
    parts: list[spaces.Space[Any]] = [BOX, spaces.Discrete(3), BOX, BOX, BOX, BOX, BOX, BOX, BOX]
    space = spaces.Dict(dict(zip(KEYS, parts, strict=True)))
    model = make_model(space, BOX, "MultiInputPolicy")
    outputs = ("value", "log_prob", "mean", "std")
    options = ExportOptions(outputs=outputs, guard=True)
    keys = ["action", "std", "log_prob", "a"]
    statistics = statistics_for(space, norm_obs_keys=[key for key in keys if key != "std"])
    folder = tmp_path / "golden"
    result = exported(model, tmp_path, statistics, options=options, golden=folder)
    assert result.certificate is not None
    assert result.certificate.passed
    renamed = ("action", "value", "std", "log_prob", "obs_ok", "/x")
    assert result.spec.renamed_inputs == {key: f"obs_{key}" for key in renamed}
    for key in renamed:
        assert any(f"{key!r} is the input 'obs_{key}'" in each for each in result.warnings)
    policy = OnnxPolicy(result.path)
    space.seed(1)
    observation = space.sample()
    want, _ = model.predict(statistics.normalize_obs(observation), deterministic=True)
    # float32 rounding through a few layers of gain one, on values of order one
    np.testing.assert_allclose(policy.predict(observation)[0], want, rtol=1e-5, atol=2e-5)
    model_file = onnx.load(folder / "model.onnx")
    sample = onnx.load_tensor(folder / "test_data_set_0" / "input_0.pb")
    assert sample.name == model_file.graph.input[0].name == policy.spec.inputs[0].name


def test_a_renamed_input_does_not_take_the_name_of_a_key(tmp_path: Path) -> None:
    space = spaces.Dict({"action": BOX, "obs_action": BOX})
    result = exported(make_model(space, BOX, "MultiInputPolicy"), tmp_path)
    assert [tensor.name for tensor in result.spec.inputs] == ["obs_obs_action", "obs_action"]


def test_a_key_with_the_name_of_stacked_frames_is_refused(tmp_path: Path) -> None:
    space = spaces.Dict({"a": BOX, "state_a": BOX})
    env = VecFrameStack(DummyVecEnv([lambda: SpaceEnv(space, BOX)]), 2)
    model = TRPO("MultiInputPolicy", env)
    with pytest.raises(ExportError, match="rename one of the two keys"):
        export_model(model, tmp_path / "policy.onnx")


@pytest.mark.parametrize(
    ("space", "name", "says"),
    [
        (BOX, "logits", "it has mean and std"),
        (spaces.Discrete(2), "std", "it has logits and margin"),
        (BOX, "entropy", "expected one of"),
        (BOX, "obs_ok", "expected one of"),
    ],
)
def test_an_output_that_the_policy_does_not_have_is_refused(
    space: spaces.Space[Any], name: str, says: str, tmp_path: Path
) -> None:
    source = save(make_model(BOX, space), tmp_path)
    with pytest.raises(ExportError, match=says):
        export_policy(source, tmp_path / "policy.onnx", options=ExportOptions((name,)))


def test_an_unknown_image_layout_must_be_named(tmp_path: Path) -> None:
    image = spaces.Box(0, 255, (36, 40, 3), np.uint8)
    source = save(make_model(image, spaces.Discrete(2), "CnnPolicy"), tmp_path)
    run_cli("export", tmp_path).assert_one_clear_line("--image-layout hwc", "--env")
    result = export_policy(
        source, tmp_path / "policy.onnx", reading=SourceOptions(image_layout="chw")
    )
    assert result.spec.inputs[0].shape == (3, 36, 40)
    run = run_cli("export", tmp_path, "--image-layout", "hwc", "--add-output", "value")
    assert run.code == 0, run.error
    spec = json.loads(run_cli("inspect", tmp_path, "--json").output)
    assert spec["inputs"][0]["shape"] == ["batch", 36, 40, 3]
    assert [tensor["name"] for tensor in spec["outputs"]] == ["action", "value"]
    assert spec["certificate"]["verdict"] == "pass"
