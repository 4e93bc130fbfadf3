"""Names, period and safe action in exported files, found and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnx
import pytest
import sb3_contrib
from gymnasium import spaces, wrappers
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.envs.test_components import Named
from tests.export.policies import BOX, make_model, save, statistics_for
from trpo_deploy.errors import ConfigError
from trpo_deploy.export import ExportOptions, SourceOptions, export_model, export_policy
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.certify.file_checks import check_spec
from trpo_deploy.export.reader.policy import read_policy
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.sb3.from_files import load_source
from trpo_deploy.spec.components import Component
from trpo_deploy.spec.policy_spec import OBS, PolicySpec

TOLD = """
period: 0.02
observation: {obs: [{name: x, unit: m}, y, z]}
action: [a, b, {name: c, unit: 2 N m}]
safe_action: [0.5, 0, -1]
"""


def told(tmp_path: Path, text: str = TOLD) -> Path:
    path = tmp_path / "names.yaml"
    path.write_text(text)
    return path


def test_a_file_of_names_is_in_the_metadata_and_changes_nothing_else(tmp_path: Path) -> None:
    run = save(make_model(), tmp_path, statistics_for(BOX))
    options = ExportOptions(names=told(tmp_path))
    named = export_policy(run, tmp_path / "named.onnx", verify=False, options=options)
    plain = export_policy(run, tmp_path / "plain.onnx", verify=False)
    spec = OnnxPolicy(named.path).spec
    assert spec.observation_components == {
        OBS: (Component("x", "m"), Component("y"), Component("z"))
    }
    assert spec.action_components[2] == Component("c", "2 N m")
    assert spec.period == 0.02
    assert spec.safe_action is not None
    assert spec.safe_action.tolist() == [0.5, 0.0, -1.0]
    assert plain.spec.control.to_json() == {}
    models = [onnx.load(each.path) for each in (named, plain)]
    for model in models:
        del model.metadata_props[:]
    assert models[0].SerializeToString() == models[1].SerializeToString()
    assert "| `0` | `x` | `m` |" in named.card.read_text()
    assert "Control period: 0.02 s (50 Hz)." in named.card.read_text()


def test_a_guard_gives_the_safe_action_of_the_file(tmp_path: Path) -> None:
    run = save(make_model(), tmp_path)
    options = ExportOptions(names=told(tmp_path), guard=True)
    result = export_policy(run, tmp_path / "policy.onnx", options=options)  # certified
    assert result.certificate is not None
    guard, safe = result.spec.guard, result.spec.safe_action
    assert guard is not None
    assert safe is not None
    np.testing.assert_array_equal(guard.action, safe)
    policy = OnnxPolicy(result.path)
    (action,) = policy.run(["action"], {"obs": np.full((1, 3), np.nan, np.float32)})
    assert action.tolist() == [[0.5, 0.0, -1.0]]


def test_the_safe_action_of_a_guard_alone_is_in_the_spec(tmp_path: Path) -> None:
    run = save(make_model(), tmp_path)
    result = export_policy(
        run, tmp_path / "policy.onnx", verify=False, options=ExportOptions(guard=True)
    )
    assert result.spec.safe_action is not None
    assert result.spec.safe_action.tolist() == [0.0, 0.0, 0.0]


def test_a_file_that_does_not_fit_stops_the_export(tmp_path: Path) -> None:
    run = save(make_model(), tmp_path)
    options = ExportOptions(names=told(tmp_path, "action: [a]"))
    with pytest.raises(ConfigError, match="the action needs 3 names, received 1"):
        export_policy(run, tmp_path / "policy.onnx", options=options)
    assert not (tmp_path / "policy.onnx").exists()


def test_the_names_of_the_environment_are_found_and_the_file_wins(tmp_path: Path) -> None:
    model = sb3_contrib.TRPO("MlpPolicy", "Pendulum-v1", seed=0)
    run = save(model, tmp_path)
    reading = SourceOptions(env_id="Pendulum-v1")
    options = ExportOptions(names=told(tmp_path, "action: [motor]"))
    result = export_policy(
        run, tmp_path / "policy.onnx", verify=False, reading=reading, options=options
    )
    assert result.spec.observation_components[OBS][0] == Component("theta.cos", "1")
    assert result.spec.action_components == (Component("motor"),)  # a unit is of its name
    assert result.spec.period == 0.05
    assert not any("period" in each for each in result.warnings)
    options = ExportOptions(names=told(tmp_path, "period: 0.1"))
    result = export_policy(
        run, tmp_path / "other.onnx", verify=False, reading=reading, options=options
    )
    assert result.spec.period == 0.1
    assert any("0.1 s, but the environment's is 0.05 s" in each for each in result.warnings)


def trained_on(env: gymnasium.Env[Any, Any]) -> Any:
    return sb3_contrib.TRPO("MlpPolicy", DummyVecEnv([lambda: env]), seed=0)


def rescaled(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    return wrappers.RescaleAction(env, np.float32(-3), np.float32(3))


def test_a_model_in_memory_has_the_names_of_its_own_environment(tmp_path: Path) -> None:
    """Also if it is not registered. A wrapper in the file changes nothing before it."""
    model = trained_on(
        wrappers.RescaleAction(Named(safe_action=None), np.float32(-3), np.float32(3))
    )
    result = export_model(model, tmp_path / "policy.onnx", verify=False)
    assert result.spec.action_components == (Component("wheel"), Component("arm"))
    assert result.spec.period == 0.01
    units = trained_on(
        wrappers.RescaleAction(Named(action_units=["N m", "N m"]), np.float32(-3), np.float32(3))
    )
    result = export_model(units, tmp_path / "policy.onnx", verify=False)
    assert [each.unit for each in result.spec.action_components] == ["N m", "N m"]
    assert result.warnings == ()


def test_attributes_that_do_not_fit_are_a_warning(tmp_path: Path) -> None:
    model = trained_on(Named(action_names=["a"]))
    result = export_model(model, tmp_path / "policy.onnx", verify=False)
    (warning,) = result.warnings
    assert "the action needs 2 names, received 1" in warning
    assert result.spec.control.to_json() == {}
    assert warning in result.card.read_text()


def test_the_names_of_another_environment_are_not_taken(tmp_path: Path) -> None:
    """A run whose wrapper cannot be made again has no names, even if the spaces fit."""
    run = save(sb3_contrib.TRPO("MlpPolicy", "Pendulum-v1", seed=0), tmp_path)
    (tmp_path / "config.yaml").write_text("env_id: Pendulum-v1\nenv_wrapper: [elsewhere:Mirror]\n")
    loaded = load_source(find_run(tmp_path), SourceOptions())
    assert loaded.environment_if_any()[0] is None
    assert loaded.control()[0].to_json() == {}
    assert run.policy_zip.exists()


def test_a_wrapper_outside_of_the_file_changes_the_unit(tmp_path: Path) -> None:
    env = wrappers.RescaleAction(gymnasium.make("Pendulum-v1"), np.float32(-1), np.float32(1))
    save(sb3_contrib.TRPO("MlpPolicy", env, seed=0), tmp_path)
    wrapper = "{'gymnasium.wrappers:RescaleAction': {min_action: -1, max_action: 1}}"
    (tmp_path / "config.yaml").write_text(f"env_id: Pendulum-v1\nenv_wrapper: [{wrapper}]\n")
    loaded = load_source(find_run(tmp_path), SourceOptions())
    control, _ = loaded.control()
    assert control.action_components == (Component("torque"),)


def test_the_statistics_in_the_spec_are_those_of_the_normaliser(tmp_path: Path) -> None:
    statistics = statistics_for(BOX)
    run = save(make_model(), tmp_path, statistics)
    result = export_policy(run, tmp_path / "policy.onnx", verify=False)
    normalizer = PolicySpec.from_json(result.spec.to_json()).normalizer
    assert normalizer is not None
    rms: Any = statistics.obs_rms
    np.testing.assert_array_equal(normalizer.mean[OBS], rms.mean)
    np.testing.assert_array_equal(normalizer.std[OBS], np.sqrt(rms.var + statistics.epsilon))


def test_the_certificate_finds_other_statistics_in_the_spec(tmp_path: Path) -> None:
    run = save(make_model(), tmp_path, statistics_for(BOX))
    result = export_policy(run, tmp_path / "policy.onnx", verify=False)
    loaded = load_source(run, SourceOptions())
    actor = read_policy(loaded.reference, has_std=loaded.has_std, float64_input=False)
    file = ExportedFile.parse(result.path.read_bytes())
    assert check_spec(file, actor).passed
    assert file.spec.normalizer is not None
    mean: Any = file.spec.normalizer.mean
    mean[OBS] = mean[OBS] + 1e-12
    check = check_spec(file, actor)
    assert check.failed
    assert check.note == "the file's normalisation statistics are not the policy's"
    mean.clear()  # an older file does not tell them
    vars(file.spec.normalizer)["std"].clear()
    assert check_spec(file, actor).passed


def test_the_statistics_of_an_image_or_a_stack_are_not_in_the_spec(tmp_path: Path) -> None:
    space = spaces.Dict(
        {"image": spaces.Box(0, 1, (3, 40, 40), np.float32), "joints": spaces.Box(-1, 1, (2,))}
    )
    model = make_model(space, policy="MultiInputPolicy")
    run = save(model, tmp_path, statistics_for(space))
    result = export_policy(run, tmp_path / "policy.onnx", verify=False)
    assert result.spec.normalizer is not None
    assert result.spec.normalizer.keys == ("image", "joints")
    assert result.spec.normalizer.mean.keys() == {"joints"}
    assert len(result.spec.to_json()) < 5000


def test_statistics_behind_a_scale_are_not_those_of_the_raw_numbers(tmp_path: Path) -> None:
    env = wrappers.RescaleObservation(Named(), np.float32(0), np.float32(1))
    vec = VecNormalize(DummyVecEnv([lambda: env]))
    model = sb3_contrib.TRPO("MlpPolicy", vec, seed=0)
    vec.reset()
    result = export_model(model, tmp_path / "policy.onnx", verify=False)
    assert result.spec.normalizer is not None
    assert json.loads(result.spec.to_json())["normalizer"].keys() == {
        *("clip_obs", "epsilon", "keys", "smallest_std")
    }
