"""Properties of every exported file: names, dtypes, batch axis, opset, size, content."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from gymnasium import spaces

from tests.export.policies import BOX, exported, make_model, save, statistics_for
from trpo_deploy.export import export_policy
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.policy_spec import METADATA_KEY, PolicySpec

CASES: dict[str, tuple[spaces.Space[Any], spaces.Space[Any]]] = {
    "box to box": (BOX, spaces.Box(-2.0, 0.5, (2,))),
    "box to discrete": (BOX, spaces.Discrete(4)),
    "discrete to box": (spaces.Discrete(5), spaces.Box(-1.0, 1.0, (2, 3))),
    "float64 to discrete": (spaces.Box(-np.inf, np.inf, (4,), np.float64), spaces.Discrete(2)),
}


@pytest.fixture(params=CASES)
def files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[onnx.ModelProto, Any, Path]:
    """The ONNX file, the torch model that it came from, and its path."""
    observation_space, action_space = CASES[request.param]
    normalize = isinstance(observation_space, spaces.Box)
    statistics = statistics_for(observation_space) if normalize else None
    model = make_model(observation_space, action_space)
    result = exported(model, tmp_path / "run", statistics)
    return onnx.load(result.path), model, result.path


def dtype_and_shape(value: onnx.ValueInfoProto) -> tuple[Any, list[Any]]:
    tensor = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape


def test_inputs_and_outputs_have_the_environments_dtypes_and_shapes(
    files: tuple[onnx.ModelProto, Any, Path],
) -> None:
    graph, model, _ = files[0].graph, files[1], files[2]
    (given,), (taken,) = graph.input, graph.output
    space = model.observation_space
    dtype = np.int64 if isinstance(space, spaces.Discrete) else np.float32
    assert given.name == "obs"
    assert dtype_and_shape(given) == (dtype, ["batch", *space.shape])
    space = model.action_space
    dtype = np.int64 if isinstance(space, spaces.Discrete) else np.float32
    assert taken.name == "action"
    assert dtype_and_shape(taken) == (dtype, ["batch", *space.shape])


def test_the_metadata_is_the_spec(files: tuple[onnx.ModelProto, Any, Path]) -> None:
    metadata = {item.key: item.value for item in files[0].metadata_props}
    assert set(metadata) == {METADATA_KEY}
    spec = PolicySpec.from_json(metadata[METADATA_KEY])
    assert spec.to_json() == metadata[METADATA_KEY]
    assert [tensor.name for tensor in spec.inputs] == ["obs"]
    assert [tensor.name for tensor in spec.outputs] == ["action"]


def test_a_row_gives_the_same_action_in_any_batch(
    files: tuple[onnx.ModelProto, Any, Path],
) -> None:
    policy = OnnxPolicy(files[2])
    rng = np.random.default_rng(0)
    (space,) = policy.spec.observation_spaces.values()
    observations = np.stack([space.sample(rng) for _ in range(256)])
    whole, _ = policy.predict(observations)
    for size in (1, 7):
        part, _ = policy.predict(observations[:size])
        # onnxruntime computes each row separately: no tolerance
        np.testing.assert_array_equal(part, whole[:size])


def test_opset_and_format_are_old_enough_for_old_engines(
    files: tuple[onnx.ModelProto, Any, Path],
) -> None:
    (opset,) = files[0].opset_import
    assert (opset.domain, opset.version) == ("", 13)
    assert files[0].ir_version <= 8
    assert {node.op_type for node in files[0].graph.node}.isdisjoint({"If", "Loop", "Scan"})


def test_the_file_is_self_contained_and_reveals_nothing_about_this_machine(
    files: tuple[onnx.ModelProto, Any, Path],
) -> None:
    model, _, path = files
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    content = path.read_bytes()
    for secret in (str(path.parent), str(Path.cwd()), str(Path.home()), socket.gethostname()):
        assert len(secret) < 3 or secret.encode() not in content
    assert b".py" not in content


def test_the_file_adds_at_most_8_kb_to_the_weights(
    files: tuple[onnx.ModelProto, Any, Path],
) -> None:
    _, model, path = files
    actor = [*model.policy.mlp_extractor.policy_net.parameters()]
    actor += [*model.policy.action_net.parameters()]
    weights = sum(4 * parameter.numel() for parameter in actor)
    assert path.stat().st_size <= weights + 8192


def test_the_same_policy_gives_the_same_bytes(tmp_path: Path) -> None:
    source = save(make_model(), tmp_path, statistics_for(BOX))
    first = export_policy(source, tmp_path / "first.onnx", verify=False).path.read_bytes()
    second = export_policy(source, tmp_path / "second.onnx", verify=False).path.read_bytes()
    assert first == second
