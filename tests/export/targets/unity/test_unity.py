"""The contract of Unity's ML-Agents: what it checks, feeds and reads, and whole episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnx
import pytest
from gymnasium import spaces
from onnx import helper, numpy_helper
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from tests.export.policies import make_model
from tests.export.targets.games import (
    NAME,
    assert_close,
    changed,
    content,
    episode,
    logits_of,
    rename,
    row,
    stacked_cartpole,
    without_output,
    write_folder,
)
from tests.export.targets.programs import KINDS
from trpo_deploy.errors import ExportError
from trpo_deploy.export import (
    SourceOptions,
    TargetOptions,
    export_file,
    export_model,
    export_policy,
)
from trpo_deploy.export.targets.folder import TargetFolder
from trpo_deploy.export.targets.unity.behavior import Behavior, Sensor
from trpo_deploy.export.targets.unity.consumer import UnityAgents
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.sb3.from_files import load_source
from trpo_deploy.spec.spaces import BoxSpace

NO_MEMORY = np.zeros((1, 1, 0), np.float32)
TWO = spaces.MultiDiscrete([3, 2])


def vector(numbers: int) -> Sensor:
    return Sensor("obs", BoxSpace(np.zeros(numbers, np.float32), np.ones(numbers, np.float32)))


@pytest.fixture(scope="module")
def discrete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder("unity", tmp_path_factory.mktemp("discrete"), action_space=TWO)


@pytest.fixture(scope="module")
def continuous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder("unity", tmp_path_factory.mktemp("continuous"))


def test_an_episode_of_discrete_actions_is_that_of_sb3(agents: Path, tmp_path: Path) -> None:
    unity = export_agent(agents / "CartPole-v1_1", tmp_path, Behavior((vector(4),), 0, (2,)))
    reference = load_source(find_run(agents / "CartPole-v1_1"), SourceOptions()).reference

    def act(observation: Any) -> Any:
        decision = unity.decide({"obs": row(observation)}, NO_MEMORY)
        assert decision.discrete.shape == (1, 1)
        return int(decision.discrete[0, 0])  # the branch counts from 0, as CartPole does

    def expected(observation: Any) -> Any:
        return reference.actions({"obs": row(observation)})[0]

    length = episode(
        gymnasium.make("CartPole-v1"), act, expected, equal=np.testing.assert_array_equal
    )
    assert length == 500


def test_an_episode_of_continuous_actions_is_that_of_sb3(agents: Path, tmp_path: Path) -> None:
    unity = export_agent(agents / "Pendulum-v1_1", tmp_path, Behavior((vector(3),), 1, ()))
    reference = load_source(find_run(agents / "Pendulum-v1_1"), SourceOptions()).reference

    def act(observation: Any) -> Any:
        (number,) = unity.decide({"obs": row(observation)}, NO_MEMORY).continuous[0]
        assert -1 <= number <= 1
        return np.array([2 * number], np.float32)  # Pendulum's torque is in -2..2

    def expected(observation: Any) -> Any:
        return reference.actions({"obs": row(observation)})[0]

    assert episode(gymnasium.make("Pendulum-v1"), act, expected, equal=assert_close) == 200


def test_the_memory_is_the_stack_of_frames(tmp_path: Path) -> None:
    env, sb3, folder = stacked_cartpole("unity", tmp_path)
    unity = UnityAgents(content(folder), Behavior((vector(4),), 0, (2,)))
    assert unity.memory_size == 8
    stacked: Any = env.reset()
    for _ in range(2):  # two episodes: the memory starts with zeros again
        memory = np.zeros((1, 1, 8), np.float32)
        done = False
        while not done:
            decision = unity.decide({"obs": stacked[:, -4:]}, memory)
            memory = decision.memory
            expected, _ = sb3.predict(stacked, deterministic=True)
            np.testing.assert_array_equal(decision.discrete[0], expected)
            stacked, _, (done,), _ = env.step(expected)


def test_a_batch_of_agents_is_decided_at_once(discrete: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    unity = agents_of(discrete)
    together = unity.decide({"obs": rows}, np.zeros((9, 1, 0), np.float32)).discrete
    for each, action in zip(rows, together, strict=True):
        alone = unity.decide({"obs": row(each)}, NO_MEMORY).discrete
        np.testing.assert_array_equal(alone[0], action)


@pytest.mark.parametrize("layout", ["hwc", "chw"])
def test_an_image_is_written_by_channel_from_the_top_in_0_to_1(layout: str, tmp_path: Path) -> None:
    shape = (36, 40, 3) if layout == "hwc" else (3, 36, 40)
    picture_space = spaces.Box(0, 255, shape, np.uint8)
    folder = write_folder(
        "unity", tmp_path, observation_space=picture_space, policy="CnnPolicy", layout=layout
    )
    policy = OnnxPolicy(tmp_path / "model" / "policy.onnx")
    unity = agents_of(folder)
    rng = np.random.default_rng(0)
    for _ in range(5):
        pixels = rng.integers(0, 256, (36, 40, 3), np.uint8)
        pixels[:18] //= 4  # the upper half is dark
        camera = np.empty((1, 3, 36, 40), np.float32)
        for channel in range(3):
            camera[0, channel] = pixels[:, :, channel] / np.float32(255)
        picture = pixels if layout == "hwc" else np.stack([pixels[:, :, c] for c in range(3)])
        expected, _ = policy.predict(picture)
        assert_close(unity.decide({"obs": camera}, NO_MEMORY).continuous[0], expected)
        upside_down = unity.decide({"obs": camera[:, :, ::-1].copy()}, NO_MEMORY).continuous[0]
        assert np.abs(upside_down - np.asarray(expected)).max() > 1e-3  # the layout matters


def test_each_pixel_value_arrives_exactly() -> None:
    values = np.arange(256, dtype=np.uint8)
    written = values / np.float32(255)
    np.testing.assert_array_equal(np.floor(written * np.float32(255) + np.float32(0.5)), values)


def test_masked_values_are_never_chosen(discrete: Path) -> None:
    """The most likely of the allowed values is, even if all others are near probability 0."""
    rng = np.random.default_rng(0)
    logits = logits_of(discrete)
    unity = agents_of(discrete)
    for scale in (1.0, 1000.0):
        for _ in range(50):
            rows = (scale * rng.normal(size=(1, 3))).astype(np.float32)
            masks = rng.integers(0, 2, (1, 5)).astype(np.float32)
            masks[0, rng.integers(0, 3)] = masks[0, 3 + rng.integers(0, 2)] = 1
            allowed = np.where(masks == 1, logits(rows), -np.inf)[0]
            expected = [allowed[:3].argmax(), allowed[3:].argmax()]
            found = unity.decide({"obs": rows}, NO_MEMORY, masks).discrete[0]
            np.testing.assert_array_equal(found, expected)


class Averaged(BaseFeaturesExtractor):
    """Mean pooling with padding."""

    def __init__(self, observation_space: spaces.Box, **pooling: Any) -> None:
        super().__init__(observation_space, 3 * 7 * 8)
        self.layers = nn.Sequential(nn.AvgPool2d(3, 2, padding=1, **pooling), nn.Flatten())

    def forward(self, observations: Tensor) -> Tensor:
        features: Tensor = self.layers(observations)
        return features


def test_mean_pooling_that_unity_reads_as_another_is_refused(tmp_path: Path) -> None:
    picture = spaces.Box(0, 255, (3, 13, 15), np.uint8)
    to = TargetOptions("unity", tmp_path / "unity", NAME)
    for counted in (True, False):
        kwargs = {
            "features_extractor_class": Averaged,
            "features_extractor_kwargs": {"count_include_pad": counted},
        }
        model = make_model(picture, policy_kwargs=kwargs)
        export_model(
            model,
            tmp_path / "policy.onnx",
            verify=False,
            reading=SourceOptions(image_layout="chw"),
        )
        if counted:
            with pytest.raises(ExportError, match="count_include_pad=False"):
                export_file(tmp_path / "policy.onnx", to, verify=True)
        else:
            export_file(tmp_path / "policy.onnx", to, verify=True)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("kind", ["action multi binary", "action box", "stack of a dict"])
def test_both_kinds_of_inference_are_there(kind: str, deterministic: bool, tmp_path: Path) -> None:
    agents_of(write_folder("unity", tmp_path, **KINDS[kind]), deterministic=deterministic)


def test_other_files_are_refused(discrete: Path, tmp_path: Path) -> None:
    behavior = Behavior.of(TargetFolder.read(discrete).spec)
    policy = (discrete.parent / "model" / "policy.onnx").read_bytes()
    godot = write_folder("godot", tmp_path, action_space=TWO)
    for other, says in ((policy, "version_number is missing"), (content(godot), "version_number")):
        with pytest.raises(ExportError, match=says):
            UnityAgents(other, behavior)
    with pytest.raises(ExportError, match=r"has the shape \(3,\), and the sensor"):
        UnityAgents(content(discrete), Behavior((vector(4),), 0, (3, 2)))
    with pytest.raises(ExportError, match="discrete_action_output_shape is"):
        UnityAgents(content(discrete), Behavior((vector(3),), 0, (2, 3)))
    with pytest.raises(ExportError, match="obs_1 of the sensor"):
        UnityAgents(content(discrete), Behavior((vector(3), vector(3)), 0, (3, 2)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_output("version_number"), "version_number is missing"),
        (without_output("memory_size"), "memory_size is missing"),
        (without_output("discrete_actions"), "discrete_actions is missing"),
        (without_output("deterministic_discrete_actions"), "deterministic_discrete_actions"),
        (without_output("discrete_action_output_shape"), "discrete_action_output_shape is"),
        (rename("obs_0", "obs"), "input obs_0 of the sensor 'obs' is missing"),
        (rename("action_masks", "masks"), "the input masks is unexpected"),
        (lambda model: set_constant(model, "version_number", 2), "version_number is"),
        (lambda model: set_constant(model, "memory_size", 4), "recurrent_in or recurrent_out"),
        (lambda model: set_opset(model, 16), "reads opsets 7 to 15, and the file has 16"),
    ],
)
def test_each_break_of_the_contract_is_found(change: Any, says: str, discrete: Path) -> None:
    behavior = Behavior.of(TargetFolder.read(discrete).spec)
    with pytest.raises(ExportError, match=says):
        UnityAgents(changed(content(discrete), change), behavior)


def test_a_file_without_continuous_shape_is_refused(continuous: Path) -> None:
    behavior = Behavior((vector(3),), 3, ())
    UnityAgents(content(continuous), behavior)
    file = changed(content(continuous), without_output("continuous_action_output_shape"))
    with pytest.raises(ExportError, match="continuous_action_output_shape is"):
        UnityAgents(file, behavior)


def agents_of(folder: Path, **keywords: Any) -> UnityAgents:
    return UnityAgents(content(folder), Behavior.of(TargetFolder.read(folder).spec), **keywords)


def export_agent(agent: Path, folder: Path, behavior: Behavior) -> UnityAgents:
    """Export one of RL Zoo's agents, and check the file against a scene made by hand."""
    export_policy(find_run(agent), folder / "policy.onnx", verify=False)
    export_file(folder / "policy.onnx", TargetOptions("unity", folder / "unity", NAME), verify=True)
    return UnityAgents(content(folder / "unity"), behavior)


def set_constant(model: onnx.ModelProto, output: str, value: float) -> None:
    (node,) = [each for each in model.graph.node if output in each.output]
    for each in model.graph.initializer:
        if each.name == node.input[0]:
            each.CopyFrom(numpy_helper.from_array(np.array([value], np.float32), each.name))


def set_opset(model: onnx.ModelProto, version: int) -> None:
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", version))
