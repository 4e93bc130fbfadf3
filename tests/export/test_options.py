"""What can be asked for: guard, opset, float64, golden vectors, code of the user's own."""

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

from tests.command import run_cli
from tests.export.extractors import KeyedSum, Normalized, Residual
from tests.export.policies import BOX, exported, make_model, save, statistics_for
from trpo_deploy import TRPO
from trpo_deploy.errors import ExportError
from trpo_deploy.export import ExportOptions, SourceOptions, export_model, export_policy
from trpo_deploy.runtime import OnnxPolicy

# --- guard ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "safe"),
    [
        (spaces.Box(-1.0, 1.0, (2,)), [0.0, 0.0]),
        (spaces.Box(0.5, 1.0, (2,)), [0.5, 0.5]),
        (spaces.Discrete(3, start=4), 4),
        (spaces.MultiDiscrete([2, 3]), [0, 0]),
        (spaces.MultiBinary(2), [0, 0]),
    ],
)
def test_a_guarded_file_gives_the_stated_action_for_nan(
    space: spaces.Space[Any], safe: Any, tmp_path: Path
) -> None:
    model = make_model(BOX, space, algorithm=TRPO)
    result = exported(model, tmp_path, statistics_for(BOX), options=ExportOptions(guard=True))
    assert result.certificate is not None
    assert any(check.name.startswith("guard") for check in result.certificate.checks)
    assert result.spec.guard is not None
    assert result.spec.guard.action.tolist() == safe
    session = ort.InferenceSession(result.path)
    observations = np.zeros((4, 3), np.float32)
    observations[1, 2], observations[2, 0] = np.nan, np.inf
    action, ok = session.run(["action", "obs_ok"], {"obs": observations})
    assert ok.tolist() == [True, False, False, True]
    assert action[1].tolist() == safe
    assert action[2].tolist() == safe
    np.testing.assert_array_equal(action[0], action[3])


def test_a_guard_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    source = save(make_model(spaces.Discrete(3)), tmp_path)
    with pytest.raises(ExportError, match="nothing to guard"):
        export_policy(source, tmp_path / "policy.onnx", options=ExportOptions(guard=True))


# --- opset ------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 12, 17, 21])
def test_other_opsets(opset: int, tmp_path: Path) -> None:
    model = make_model(BOX, spaces.MultiDiscrete([2, 3]), algorithm=TRPO)
    options = ExportOptions(("value", "log_prob", "margin"), opset=opset, guard=True)
    result = exported(model, tmp_path, statistics_for(BOX), options=options)
    assert onnx.load(result.path).opset_import[0].version == opset


@pytest.mark.parametrize(("opset", "says"), [(9, "Clip"), (99, "newer than the installed onnx")])
def test_an_opset_that_cannot_hold_the_policy(opset: int, says: str, tmp_path: Path) -> None:
    save(make_model(), tmp_path, statistics_for(BOX))
    run = run_cli("export", tmp_path, "--opset", opset)
    run.assert_one_clear_line(says, str(opset))
    assert not (tmp_path / "policy.onnx").exists()


# --- float64 and small deviations ---------------------------------------------------------------


def test_float64_input_keeps_what_float32_loses(tmp_path: Path) -> None:
    """An observation of 1000 ± 1e-4 has one significant digit left in float32."""
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
    assert "warning: obs: the smallest standard deviation" in run.output


# --- golden vectors ---------------------------------------------------------------------------


def test_golden_vectors_in_the_layout_of_onnx(tmp_path: Path) -> None:
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


def test_the_certificate_has_a_golden_sample(tmp_path: Path) -> None:
    result = exported(make_model(), tmp_path, statistics_for(BOX))
    golden = json.loads((tmp_path / "certificate.json").read_text())["golden"]
    found, _ = OnnxPolicy(result.path).predict(golden["observation"])
    np.testing.assert_array_equal(found, np.asarray(golden["action"], found.dtype))


# --- code of the user's own ---------------------------------------------------------------------


def test_an_extractor_of_the_users_own_by_name(tmp_path: Path) -> None:
    model = make_model(policy_kwargs={"features_extractor_class": Residual})
    save(model, tmp_path)
    name = "tests.export.extractors:Residual"
    run_cli("export", tmp_path).assert_one_clear_line("Residual", "--allow-import")
    run = run_cli("export", tmp_path, "--allow-import", name)
    assert run.code == 0, run.error
    file = onnx.load(tmp_path / "policy.onnx")
    assert file.ir_version <= 8
    assert file.opset_import[0].version == 13
    content = (tmp_path / "policy.onnx").read_bytes()
    assert b"extractors.py" not in content
    assert str(Path.cwd()).encode() not in content
    observations = np.random.default_rng(0).uniform(-1, 1, (9, 3)).astype(np.float32)
    found, _ = OnnxPolicy(tmp_path / "policy.onnx").predict(observations)
    expected, _ = model.predict(observations, deterministic=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    for wrong in ("no.such:Thing", "json:loads", "nothing"):
        run_cli("export", tmp_path, "--allow-import", wrong).assert_one_clear_line(wrong)


@pytest.mark.parametrize("opset", [13, 15])
def test_an_extractor_with_batch_statistics_is_the_same_in_all_engines(
    opset: int, tmp_path: Path
) -> None:
    """onnx's own evaluator, left to itself, takes those of each batch below opset 14."""
    model = make_model(policy_kwargs={"features_extractor_class": Normalized})
    reading = SourceOptions(allow_import=("tests.export.extractors:Normalized",))
    options = ExportOptions(opset=opset)
    certificate = exported(model, tmp_path, reading=reading, options=options).certificate
    assert certificate is not None
    assert certificate.passed
    assert any("onnx reference" in check.name for check in certificate.checks)


@pytest.mark.parametrize("share", [True, False])
def test_an_extractor_of_keys_in_python(share: bool, tmp_path: Path) -> None:
    space = spaces.Dict({"a": BOX, "b": spaces.Discrete(4)})
    model = make_model(
        space,
        spaces.Discrete(3),
        "MultiInputPolicy",
        policy_kwargs={"features_extractor_class": KeyedSum, "share_features_extractor": share},
    )
    result = export_model(model, tmp_path / "p.onnx", options=ExportOptions(("value",)))
    assert result.certificate is not None


def test_a_live_model_tells_its_wrappers(tmp_path: Path) -> None:
    from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

    from tests.export.policies import SpaceEnv, randomize

    image = spaces.Box(0, 255, (36, 40, 1), np.uint8)
    env = VecFrameStack(DummyVecEnv([lambda: SpaceEnv(image, spaces.Discrete(3))]), 3)
    model = TRPO("CnnPolicy", env)
    randomize(model.policy)
    result = export_model(model, tmp_path / "p.onnx")
    assert [tensor.to_json()["shape"] for tensor in result.spec.inputs] == [
        ["batch", 36, 40, 1],
        ["batch", 36, 40, 2],
    ]
    env = VecNormalize(DummyVecEnv([lambda: SpaceEnv(BOX, spaces.Discrete(3))]))
    result = export_model(TRPO("MlpPolicy", env), tmp_path / "n.onnx")
    assert result.spec.normalizer is not None
    result = export_model(make_model().policy, tmp_path / "q.onnx")
    assert result.spec.normalizer is None


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    from stable_baselines3 import SAC

    with pytest.raises(ExportError, match=r"SACPolicy.*supported"):
        export_model(make_model(algorithm=SAC).policy, tmp_path / "p.onnx")


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["action", "value", "state_a", "next_state_a", "/x"])
def test_a_key_named_like_an_output_is_refused(key: str, tmp_path: Path) -> None:
    space = spaces.Dict({"a": BOX, key: BOX})
    source = save(make_model(space, BOX, "MultiInputPolicy"), tmp_path)
    with pytest.raises(ExportError, match="rename the key"):
        export_policy(source, tmp_path / "policy.onnx")


@pytest.mark.parametrize(
    ("space", "name", "says"),
    [
        (BOX, "logits", "it has mean and std"),
        (spaces.Discrete(2), "std", "it has logits and margin"),
        (BOX, "entropy", "there are"),
        (BOX, "obs_ok", "there are"),
    ],
)
def test_an_output_that_the_policy_does_not_have(
    space: spaces.Space[Any], name: str, says: str, tmp_path: Path
) -> None:
    source = save(make_model(BOX, space), tmp_path)
    with pytest.raises(ExportError, match=says):
        export_policy(source, tmp_path / "policy.onnx", options=ExportOptions((name,)))


def test_an_image_whose_layout_nobody_knows(tmp_path: Path) -> None:
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
