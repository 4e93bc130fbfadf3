"""A program's steps compute what the graph computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.export.targets.interpreter import interpret
from tests.export.targets.programs import KINDS, make
from tests.runtime.policy_files import ACTION_SPACES, OBSERVATION_SPACES, write_policy
from trpo_deploy.errors import ExportError
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.targets.program import Dense, Map, Program, Reshape
from trpo_deploy.export.targets.read_graph import read_program
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.spaces import BoxSpace, DictSpace


def assert_equals_onnxruntime(path: Path) -> Program:
    """Compare an episode of eight rows, in which frame stacks go on."""
    program = read_program(ExportedFile.parse(path.read_bytes()))
    policy, rng = OnnxPolicy(path), np.random.default_rng(0)
    spec, states = policy.spec, None
    frames = {state.input.name: state.zeros(1)[0] for state in spec.states}
    for _ in range(8):
        observation = spec.sample_observation(rng)
        inputs, _ = spec.validate(observation)
        expected, states = policy.step(inputs, states)
        row = {key: array[0] for key, array in inputs.items()}
        found, frames = interpret(program, {**row, **frames})
        if isinstance(spec.action_space, BoxSpace):
            # the rounding of float32 in a few layers of gain one
            np.testing.assert_allclose(found, expected[0], rtol=1e-5, atol=5e-6)
        else:
            np.testing.assert_array_equal(found, expected[0])
        for name, after in zip(frames, states or (), strict=True):
            np.testing.assert_allclose(frames[name], after[0], rtol=1e-5, atol=5e-6)
    return program


@pytest.mark.parametrize("kind", KINDS)
def test_every_exported_policy_is_held(kind: str, tmp_path: Path) -> None:
    assert_equals_onnxruntime(make(tmp_path, **KINDS[kind]))


@pytest.mark.parametrize("observation", OBSERVATION_SPACES)
@pytest.mark.parametrize("action", ACTION_SPACES)
def test_every_handwritten_graph_is_held(observation: str, action: str, tmp_path: Path) -> None:
    spaces = OBSERVATION_SPACES[observation], ACTION_SPACES[action]
    assert_equals_onnxruntime(write_policy(tmp_path / "policy.onnx", *spaces, hidden=4))


@pytest.mark.parametrize("model", ["Hopper-v5", "Ant-v4"])
def test_shipped_models_are_held(model: str) -> None:
    assert_equals_onnxruntime(Path(__file__).parents[3] / "models" / model / "policy.onnx")


def test_files_of_format_1_are_held() -> None:
    path = Path(__file__).parents[2] / "fixtures" / "format-1" / "policy.onnx"
    assert_equals_onnxruntime(path)


def test_chains_of_functions_are_one_step(tmp_path: Path) -> None:
    program = assert_equals_onnxruntime(make(tmp_path, **KINDS["normalised"]))
    steps = [type(each) for each in program.steps if not isinstance(each, Reshape)]
    assert steps == [Map, Dense, Map, Dense, Map, Dense, Map]


def with_node(path: Path, operator: str, **attributes: Any) -> ExportedFile:
    """A file whose observation first passes through an operator."""
    model = onnx.load(path)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "obs":
                node.input[index] = "/changed"
    model.graph.node.insert(0, helper.make_node(operator, ["obs"], ["/changed"], **attributes))
    return ExportedFile.parse(model.SerializeToString())


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Sinh", {}),
        ("Transpose", {"perm": [1, 0]}),
        ("Cast", {"to": TensorProto.FLOAT, "domain": "com.microsoft"}),
    ],
)
def test_other_operators_are_refused_by_name(
    operator: str, attributes: dict[str, Any], tmp_path: Path
) -> None:
    file = with_node(write_policy(tmp_path / "policy.onnx", hidden=2), operator, **attributes)
    with pytest.raises(ExportError, match=f"the operator {operator}"):
        read_program(file)


def test_dict_keys_keep_their_order(tmp_path: Path) -> None:
    space = OBSERVATION_SPACES["dict"]
    assert isinstance(space, DictSpace)
    program = read_program(
        ExportedFile.parse(write_policy(tmp_path / "policy.onnx", space).read_bytes())
    )
    assert list(program.inputs) == list(space.spaces)
