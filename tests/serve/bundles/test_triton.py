"""A model repository is one that Triton can load, and its actions are the policy's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2

from tests.command import run_cli
from tests.files.signed import write_certified, write_keys
from tests.runtime.policy_files import (
    ACTION_SPACES,
    IMAGE,
    box,
    make_spec,
)
from tests.serve.bundles.conftest import MODELS, SHIPPED, Bundled
from tests.serve.bundles.triton import TritonModel
from tests.serve.model_names import ALL, DETERMINISTIC, SAMPLED, STACKED
from trpo_deploy.errors import ServeError
from trpo_deploy.files.signature import check_signature, sign
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve import bundle
from trpo_deploy.serve.bundles.triton.config import model_config
from trpo_deploy.serve.bundles.triton.text_format import to_text
from trpo_deploy.spec.policy_spec import ACTION, METADATA_KEY, StateSpec, TensorSpec
from trpo_deploy.spec.spaces import Array, DictSpace, DiscreteSpace

FORMAT_1 = MODELS.parent / "tests" / "fixtures" / "format-1"


def rows_for(model: TritonModel, inputs: dict[str, Array]) -> dict[str, Array]:
    """Inputs of the file in the shapes that Triton's clients send."""
    return {each.name: inputs[each.name].reshape(-1, *each.dims) for each in model.config.input}


@pytest.fixture(scope="module")
def files(models: Path) -> dict[str, Path]:
    """Policies of every kind of space, and an old export that stacks frames."""
    found = {name: models / name / "policy.onnx" for name in ALL}
    return {**found, FORMAT_1.name: FORMAT_1 / "policy.onnx"}


@pytest.fixture(scope="module")
def repository(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of these models."""
    return bundle([models, FORMAT_1], tmp_path_factory.mktemp("triton") / "out", "triton")


def assert_same_actions(model: TritonModel, file: Path) -> None:
    policy, rng = OnnxPolicy(file), np.random.default_rng(0)
    observations = [policy.spec.sample_observation(rng) for _ in range(3)]
    checked = [policy.spec.validate(each)[0] for each in observations]
    keys = {tensor.key: tensor.name for tensor in policy.spec.inputs}
    inputs = {name: np.concatenate([each[key] for each in checked]) for key, name in keys.items()}
    found = model.infer(rows_for(model, inputs))[ACTION]
    expected = np.stack([policy.predict(each)[0] for each in observations])
    # One row and three may be summed in another order.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_shipped_models_load_and_act_alike(bundled: Bundled) -> None:
    folder = bundled("triton")
    assert sorted(each.name for each in folder.iterdir()) == sorted(SHIPPED)
    for name in SHIPPED:
        model = TritonModel(folder / name)
        assert model.config.WhichOneof("scheduling_choice") == "dynamic_batching"
        assert_same_actions(model, MODELS / name / "policy.onnx")
        found = run_cli("inspect", folder / name / "1" / "model.onnx", "--json")
        assert '"passed": true' in found.output, found


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_every_kind_of_space(name: str, repository: Path, files: dict[str, Path]) -> None:
    assert_same_actions(TritonModel(repository / name), files[name])


def test_all_outputs_of_a_file_are_outputs_of_the_model(
    repository: Path, files: dict[str, Path]
) -> None:
    for name in SAMPLED:
        spec = OnnxPolicy(files[name]).spec
        found = [each.name for each in TritonModel(repository / name).config.output]
        assert found == [each.name for each in spec.outputs]


def test_names_that_need_quoting() -> None:
    space = DictSpace({'say "hi"\\\n': box(2), "Gelenk ä 🤖": DiscreteSpace(3)})
    text = to_text(model_config("odd", make_spec(space, ACTION_SPACES["box"])))
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert [each.name for each in config.input] == [*space.spaces]


@pytest.mark.parametrize("name", [*STACKED, FORMAT_1.name])
def test_stacked_frames_are_state_of_a_sequence(
    name: str, repository: Path, files: dict[str, Path]
) -> None:
    """Two robots in turn, one of which starts a second episode."""
    model, policy = TritonModel(repository / name), OnnxPolicy(files[name])
    assert model.config.WhichOneof("scheduling_choice") == "sequence_batching"
    assert [each.name for each in model.config.input] == ["obs"]
    assert [each.name for each in model.config.output] == ["action"]
    rng = np.random.default_rng(0)
    states: dict[int, Any] = {}
    for step in range(12):
        robot, start = 1 + step % 2, step in (0, 1, 6)
        observation = np.asarray(policy.spec.sample_observation(rng))
        expected, states[robot] = policy.predict(observation, None if start else states[robot])
        rows = {"obs": observation[np.newaxis]}
        found = model.infer_in_sequence(robot, rows, start=start)
        np.testing.assert_array_equal(found["action"][0], expected)


def test_a_signature_stays_valid(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / "keys")
    sign(write_certified(tmp_path / "signed" / "policy.onnx"), private)
    folder = bundle([tmp_path / "signed"], tmp_path / "out", "triton")
    check_signature(folder / "signed" / "1" / "model.onnx", [public])


def write_policy_with_scalar_state(path: Path) -> None:
    """A file that the service takes: its state is one number, not an array."""
    state = StateSpec(TensorSpec("state_obs", "float32", ()), "next_state_obs")
    following = TensorSpec(state.output, "float32", ())
    spec = make_spec(box(2), ACTION_SPACES["box"], (following,), states=(state,))
    nodes = [
        helper.make_node("Identity", ["obs"], [ACTION]),
        helper.make_node("Identity", [state.input.name], [state.output]),
    ]
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in {
            "obs": [2],
            ACTION: [2],
            state.input.name: [],
            state.output: [],
        }.items()
    }
    inputs = [values["obs"], values[state.input.name]]
    graph = helper.make_graph(nodes, "policy", inputs, [values[ACTION], values[state.output]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    path.parent.mkdir(parents=True)
    onnx.save(model, str(path))


@pytest.mark.parametrize("target", ["triton", "kserve"])
def test_a_policy_that_triton_cannot_hold_is_refused_in_one_line(
    target: str, tmp_path: Path
) -> None:
    write_policy_with_scalar_state(tmp_path / "odd" / "policy.onnx")
    run = run_cli("bundle", tmp_path / "odd", "--target", target, "-o", tmp_path / "new" / "out")
    run.assert_one_clear_line(
        "cannot hold model odd: its state 'state_obs' is a single number, expected an array"
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["odd"]


def test_a_tensor_without_numbers_is_refused() -> None:
    space = DictSpace({"camera": IMAGE, "nothing": box(0)})
    with pytest.raises(ServeError, match=r"tensor 'nothing' has the shape \(0,\)"):
        model_config("odd", make_spec(space, ACTION_SPACES["box"]))
