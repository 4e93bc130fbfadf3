"""A file passes if it is the policy, and fails after any change."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from gymnasium import spaces
from onnx import numpy_helper

from tests.command import run_cli
from tests.export.policies import BOX, exported, make_model, save, statistics_for
from trpo_deploy import TRPO
from trpo_deploy.export import (
    ExportOptions,
    SourceOptions,
    export_policy,
    verify_policy,
)
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.spaces import Array


def constants_of(model: onnx.ModelProto, operator: str, index: int = -1) -> list[str]:
    """Names of the constants that the index-th node of an operator takes."""
    nodes = [node for node in model.graph.node if node.op_type == operator]
    names = {tensor.name for tensor in model.graph.initializer}
    return [name for name in nodes[index].input if name in names]


def edit(model: onnx.ModelProto, name: str, change: Callable[[Array], Array]) -> None:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    value = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(value).astype(value.dtype), name))


def one_weight(model: onnx.ModelProto) -> None:
    def change(weight: Array) -> Array:
        changed = weight.copy()
        changed[0, 0] += 1e-3
        return changed

    edit(model, constants_of(model, "Gemm", 0)[0], change)


def bias(model: onnx.ModelProto) -> None:
    edit(model, constants_of(model, "Gemm")[1], lambda b: b + 1e-4)


def mean(model: onnx.ModelProto) -> None:
    edit(model, constants_of(model, "Sub", 0)[0], lambda m: m + 1e-3)


def std(model: onnx.ModelProto) -> None:
    edit(model, constants_of(model, "Div", 0)[0], lambda s: s * 1.001)


def normalizer_clip(model: onnx.ModelProto) -> None:
    edit(model, constants_of(model, "Clip", 0)[1], lambda c: c * 0.99)


def no_normalizer_clip(model: onnx.ModelProto) -> None:
    edit(model, constants_of(model, "Clip", 0)[1], lambda c: c * 1e6)


def action_bound(model: onnx.ModelProto) -> None:
    edit(model, constants_of(model, "Min")[0], lambda high: high * 0.99)


def output_order(model: onnx.ModelProto) -> None:
    for name in constants_of(model, "Gemm"):
        edit(model, name, lambda values: values[::-1])


def start(model: onnx.ModelProto) -> None:
    edit(model, constants_of(model, "Add")[0], lambda value: value + 1)


def activation(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Tanh").op_type = "Softsign"


MUTATIONS: list[tuple[Callable[[onnx.ModelProto], None], spaces.Space[Any]]] = [
    (one_weight, BOX),
    (bias, BOX),
    (mean, BOX),
    (std, BOX),
    (normalizer_clip, BOX),
    (no_normalizer_clip, BOX),
    (action_bound, spaces.Box(-0.1, 0.1, (2,))),
    (output_order, BOX),
    (activation, BOX),
    (output_order, spaces.Discrete(3)),
    (one_weight, spaces.Discrete(3)),
    (bias, spaces.Discrete(3, start=2)),
    (start, spaces.Discrete(3, start=2)),
]


@pytest.mark.parametrize(
    ("mutate", "action_space"), MUTATIONS, ids=[f"{m.__name__}-{s}" for m, s in MUTATIONS]
)
def test_a_changed_file_is_not_certified(
    mutate: Callable[[onnx.ModelProto], None],
    action_space: spaces.Space[Any],
    tmp_path: Path,
) -> None:
    observations = spaces.Box(-100.0, 100.0, (3,))
    model = make_model(observations, action_space, algorithm=TRPO)
    result = exported(model, tmp_path, statistics_for(observations))
    assert result.certificate is not None
    assert result.certificate.passed
    changed = onnx.load(result.path)
    mutate(changed)
    onnx.save(changed, result.path)
    certificate = verify_policy(find_run(tmp_path), result.path)
    # An equal bias on all logits changes neither action nor distribution, but the file differs.
    assert not certificate.passed, certificate.to_json()


DICT = spaces.Dict(
    {
        "picture": spaces.Box(0, 255, (36, 40, 3), np.uint8),
        "choice": spaces.MultiDiscrete([3, 2]),
        "vector": spaces.Box(-1.0, 1.0, (2,)),
    }
)


def scaled(name: str, factor: float) -> Callable[[onnx.ModelProto], None]:
    return lambda model: edit(model, name, lambda value: value * factor)


def swapped(operator: str) -> Callable[[onnx.ModelProto], None]:
    """Reverse the inputs of an operator."""

    def mutate(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == operator)
        inputs = list(node.input)[::-1]
        del node.input[:]
        node.input.extend(inputs)

    return mutate


@pytest.mark.parametrize(
    "mutate",
    [
        scaled("/obs/picture/255", 254 / 255),
        scaled("/features/picture/0/weight", 1.001),
        scaled("/critic/4/bias", 1.01),
        scaled("/guard/safe_action", 0.5),
        lambda model: edit(model, "/obs/choice/values", lambda values: values[::-1]),
        lambda model: edit(model, "/obs/choice/columns", lambda columns: columns[::-1]),
        swapped("Concat"),
    ],
    ids=["scale", "CNN", "value", "safe action", "one-hot", "numbers", "order of features"],
)
def test_a_changed_file_with_several_inputs_is_not_certified(
    mutate: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    reading = SourceOptions(image_layout="hwc")
    model = make_model(DICT, spaces.Box(0.1, 1.0, (2,)), "MultiInputPolicy")
    options = ExportOptions(("value",), guard=True)
    source = save(model, tmp_path)
    path = tmp_path / "policy.onnx"
    export_policy(source, path, verify=False, options=options, reading=reading)
    changed = onnx.load(path)
    mutate(changed)
    onnx.save(changed, path)
    assert not verify_policy(source, path, reading=reading).passed


@pytest.mark.parametrize(
    "mutate",
    [swapped("Concat"), scaled("/std/values", 1.001), scaled("/log_prob/norm", 1.001)],
    ids=["order of frames", "std", "log_prob"],
)
def test_a_changed_file_with_frame_stacks_is_not_certified(
    mutate: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    stacked = spaces.Box(-1.0, 1.0, (4,))
    reading = SourceOptions(frame_stack=2)
    options = ExportOptions(("std", "log_prob"))
    result = exported(make_model(stacked), tmp_path, options=options, reading=reading)
    changed = onnx.load(result.path)
    mutate(changed)
    onnx.save(changed, result.path)
    assert not verify_policy(find_run(tmp_path), result.path, reading=reading).passed


def test_rows_with_infinite_earlier_frames_are_compared(tmp_path: Path) -> None:
    """The normaliser clips infinities, so that only the earlier frames stay infinite."""
    stacked = spaces.Box(-np.inf, np.inf, (4,))
    reading = SourceOptions(frame_stack=2)
    result = exported(make_model(stacked), tmp_path, statistics_for(stacked), reading=reading)
    assert result.certificate is not None
    edges = [check for check in result.certificate.checks if check.name.endswith("edges")]
    assert edges
    assert all(check.measured["rows_undefined_in_sb3"] == 0 for check in edges)


def test_the_certificate_is_bound_to_the_files(tmp_path: Path) -> None:
    exported(make_model(), tmp_path, statistics_for(BOX))
    certificate = json.loads((tmp_path / "certificate.json").read_text())
    assert certificate["verdict"] == "pass"
    for name in ("policy.zip", "vecnormalize.pkl", "policy.onnx"):
        assert certificate["sha256"][name] == sha256((tmp_path / name).read_bytes()).hexdigest()


def test_verify_refuses_the_file_of_another_policy(tmp_path: Path) -> None:
    exported(make_model(seed=1), tmp_path / "one")
    save(make_model(seed=2), tmp_path / "two")
    run = run_cli("verify", tmp_path / "two", tmp_path / "one" / "policy.onnx")
    assert run.code == 1
    assert "NOT the same policy" in run.output
    assert "FAIL" in run.output
    assert "Traceback" not in run.error
    right = run_cli(
        "verify", tmp_path / "one", tmp_path / "one" / "policy.onnx", "-o", tmp_path / "c.json"
    )
    assert right.code == 0, right.error
    assert json.loads((tmp_path / "c.json").read_text())["verdict"] == "pass"


def test_verify_refuses_a_file_for_other_spaces(tmp_path: Path) -> None:
    exported(make_model(action_space=spaces.Discrete(3)), tmp_path / "one")
    source = save(make_model(action_space=spaces.Discrete(4)), tmp_path / "two")
    certificate = verify_policy(source, tmp_path / "one" / "policy.onnx")
    assert not certificate.passed
    assert "spec" in certificate.failures()


def test_the_tolerance_is_as_small_as_sb3s_own_noise(tmp_path: Path) -> None:
    """The tolerance is as small as rounding errors."""
    result = exported(make_model(), tmp_path, statistics_for(BOX))
    assert result.certificate is not None
    parity = [c for c in result.certificate.checks if c.name.startswith("parity")]
    assert {c.name.split(", ")[1] for c in parity} == {"onnxruntime", "onnx reference"}
    for check in parity:
        assert check.measured["rows_beyond_tolerance"] == 0
        # A network of this size amplifies float32 rounding, 2**-24 = 6e-8, a few times.
        assert check.measured["sb3_batch_noise"] < 5e-6


def test_onnx_and_torch_agree_on_any_observations(tmp_path: Path) -> None:
    """A comparison that does not use the certificate's code."""
    statistics = statistics_for(BOX)
    model = make_model()
    policy = OnnxPolicy(exported(model, tmp_path, statistics).path)
    observations = np.random.default_rng(5).normal(0, 3, (500, 3)).astype(np.float32)
    expected, _ = model.predict(statistics.normalize_obs(observations), deterministic=True)
    found, _ = policy.predict(observations)
    # (x - mean) / std is float32 here and float64 in SB3: a few units of 2**-24 on numbers up to
    # the clip of 10, through two layers with a gain of about one.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
