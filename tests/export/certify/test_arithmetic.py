"""How close a file is to Stable-Baselines3, and what the certificate says about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from gymnasium import spaces
from onnx import numpy_helper, shape_inference

from tests.command import run_cli
from tests.export.certify.test_certificate import constants_of, edit
from tests.export.policies import BOX, exported, make_model, save, statistics_for
from trpo_deploy import TRPO
from trpo_deploy.export import ExportOptions, SourceOptions, export_policy, verify_policy
from trpo_deploy.export.certify.certificate import Certificate
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.spaces import Array

WIDE = spaces.Box(-np.inf, np.inf, (3,), np.float32)
ACTION = spaces.Box(-9.0, 9.0, (2,))


def constant_dimensions() -> Any:
    """Statistics of numbers that never change: VecNormalize's deviation is then 1e-4."""
    statistics = statistics_for(WIDE)
    rms: Any = statistics.obs_rms
    rms.mean[:], rms.var[:] = (100 / 3, 0.1, -7.7), 0.0
    return statistics


def near(mean: Array) -> Array:
    """Float32 observations within a few units in the last place of a mean."""
    steps = np.arange(-8, 9)[:, None]
    close = mean.astype(np.float32)
    return np.asarray((close + steps * np.spacing(close)).astype(np.float32))


def without_low_part(path: Path) -> None:
    """Make a file as earlier versions wrote it: one float32 mean."""
    model = onnx.load(path)
    (node,) = [each for each in model.graph.node if "/obs/obs/mean_low" in each.input]
    (next_,) = [each for each in model.graph.node if node.output[0] in each.input]
    next_.input[0] = node.input[0]
    model.graph.node.remove(node)
    (low,) = [each for each in model.graph.initializer if each.name == "/obs/obs/mean_low"]
    model.graph.initializer.remove(low)
    onnx.save(model, path)


def test_a_small_deviation_does_not_amplify_the_rounding_of_the_mean(tmp_path: Path) -> None:
    statistics = constant_dimensions()
    model = make_model(WIDE, ACTION, algorithm=TRPO)
    result = exported(model, tmp_path, statistics)
    observations = near(statistics.obs_rms.mean)
    expected, _ = model.predict(statistics.normalize_obs(observations), deterministic=True)
    found, _ = OnnxPolicy(result.path).predict(observations)
    # A few units in the last place of normalised numbers up to 10, through gains of about one.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert result.warnings == ()
    without_low_part(result.path)
    before, _ = OnnxPolicy(result.path).predict(observations)
    assert np.abs(before - expected).max() > 1e-3


def parity(certificate: Certificate) -> list[Any]:
    return [check for check in certificate.checks if check.name.startswith("parity")]


def test_the_tolerance_follows_the_arithmetic_of_the_file(tmp_path: Path) -> None:
    """A mean that is off by what float32 loses fails, unless the file rounds its mean."""
    exported(make_model(WIDE, ACTION, algorithm=TRPO), tmp_path, constant_dimensions())
    path, source = tmp_path / "policy.onnx", find_run(tmp_path)
    changed = onnx.load(path)
    edit(changed, "/obs/obs/mean_low", np.zeros_like)
    onnx.save(changed, path)
    certificate = verify_policy(source, path)
    assert not certificate.passed
    without_low_part(path)
    assert verify_policy(source, path).passed


def test_the_certificate_names_the_worst_number_and_its_observation(tmp_path: Path) -> None:
    source = save(make_model(BOX, ACTION), tmp_path)
    path = export_policy(source, tmp_path / "policy.onnx").path
    changed = onnx.load(path)

    def second(bias: Array) -> Array:
        return bias + np.array([0.0, 1e-3], np.float32)

    edit(changed, constants_of(changed, "Gemm")[1], second)
    onnx.save(changed, path)
    certificate = verify_policy(source, path)
    printed = run_cli("verify", tmp_path, path).output
    for check in parity(certificate):
        case = check.worst_case
        assert case is not None
        # The mean and, within the bounds, the action are off by the same amount.
        assert case["output"] in ("action[1]", "mean[1]")
        assert f"{check.name}: {case['output']} is " in printed
        assert case["output"] in certificate.failures()
        assert case["error"] == pytest.approx(1e-3, rel=1e-2)
        assert case["error"] > case["tolerance"]
        given = np.asarray(case["observation"]["obs"], np.float32)
        found, _ = OnnxPolicy(path).predict(np.broadcast_to(given, 3))
        assert found[1] == pytest.approx(case["file"], rel=1e-6)


def test_a_discrete_action_that_rounding_changes_is_a_warning(tmp_path: Path) -> None:
    space = spaces.Box(-np.inf, np.inf, (3,), np.float64)
    statistics = statistics_for(space)
    rms: Any = statistics.obs_rms
    rms.mean[:], rms.var[:] = (1e3, 0.0, 0.0), (1e-10, 1.0, 1.0)
    result = exported(make_model(space, spaces.Discrete(3)), tmp_path, statistics)
    assert len(result.warnings) == 1
    assert "because of obs[0]" in result.warnings[0]


def test_convolutions_carry_their_kernel_shape(tmp_path: Path) -> None:
    image = spaces.Box(0, 255, (1, 36, 40), np.uint8)
    source = save(make_model(image, spaces.Discrete(2), "CnnPolicy"), tmp_path)
    reading = SourceOptions(image_layout="chw")
    path = export_policy(source, tmp_path / "p.onnx", reading=reading, verify=False).path
    graph = onnx.load(path).graph
    weights = {each.name: numpy_helper.to_array(each).shape for each in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 3
    for node in convolutions:
        attributes = {each.name: list(each.ints) for each in node.attribute}
        assert attributes["kernel_shape"] == list(weights[node.input[1]][2:])


@pytest.mark.parametrize(
    "action",
    [
        spaces.Box(0.5, 1.0, (2,)),
        spaces.Box(0.5, 1.0, (2, 3)),
        spaces.Discrete(3, start=4),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(2),
    ],
    ids=str,
)
def test_the_guard_chooses_between_operands_of_one_shape(
    action: spaces.Space[Any], tmp_path: Path
) -> None:
    result = exported(make_model(BOX, action), tmp_path, options=ExportOptions(guard=True))
    inferred = shape_inference.infer_shapes(onnx.load(result.path), strict_mode=True).graph
    kinds = {each.name: each.type.tensor_type.shape.dim for each in inferred.value_info}
    kinds |= {each.name: each.type.tensor_type.shape.dim for each in inferred.input}
    choices = [node for node in inferred.node if node.op_type == "Where"]
    assert len(choices) == 2
    for node in choices:
        sizes = {tuple(dim.dim_value for dim in kinds[name]) for name in node.input}
        assert len(sizes) == 1, (node.output, sizes)
