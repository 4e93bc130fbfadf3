"""The contract of Godot RL Agents: what the plugin feeds and reads, and whole episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.command import run_cli
from tests.export.policies import BOX
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
from tests.export.targets.programs import KINDS, make
from trpo_deploy.errors import ExportError
from trpo_deploy.export import SourceOptions, TargetOptions, export_file, export_policy
from trpo_deploy.export.targets.godot.consumer import GodotAction, GodotModel
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.sb3.from_files import load_source

TWO = {"move": GodotAction(3, "discrete"), "jump": GodotAction(2, "discrete")}
FOUR = {"action": GodotAction(4, "discrete")}


@pytest.fixture(scope="module")
def discrete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    space = spaces.MultiDiscrete([3, 2])
    return write_folder("godot", tmp_path_factory.mktemp("discrete"), action_space=space)


def test_an_episode_of_discrete_actions_is_that_of_sb3(agents: Path, tmp_path: Path) -> None:
    model = export_agent(agents / "CartPole-v1_1", tmp_path, {"push": GodotAction(2, "discrete")})
    reference = load_source(find_run(agents / "CartPole-v1_1"), SourceOptions()).reference
    length = episode(
        gymnasium.make("CartPole-v1"),
        lambda observation: model.act({"obs": observation.tolist()})["push"],
        lambda observation: reference.actions({"obs": row(observation)})[0],
        equal=np.testing.assert_array_equal,
    )
    assert length == 500


def test_an_episode_of_continuous_actions_is_that_of_sb3(agents: Path, tmp_path: Path) -> None:
    model = export_agent(
        agents / "Pendulum-v1_1", tmp_path, {"torque": GodotAction(1, "continuous")}
    )
    reference = load_source(find_run(agents / "Pendulum-v1_1"), SourceOptions()).reference
    length = episode(
        gymnasium.make("Pendulum-v1"),
        # Pendulum's torque is in -2..2
        lambda observation: np.float32(2 * model.act({"obs": observation.tolist()})["torque"]),
        lambda observation: reference.actions({"obs": row(observation)})[0],
        equal=assert_close,
    )
    assert length == 200


def test_the_observation_has_all_frames_with_the_oldest_first(tmp_path: Path) -> None:
    env, sb3, folder = stacked_cartpole("godot", tmp_path)
    model = GodotModel(content(folder), {"push": GodotAction(2, "discrete")})
    stacked: Any = env.reset()
    for _ in range(2):
        frames, done = [0.0] * 12, False
        while not done:
            frames = (frames + stacked[0, -4:].tolist())[-12:]  # as the README's controller
            expected, _ = sb3.predict(stacked, deterministic=True)
            assert model.act({"obs": frames})["push"] == expected[0]
            stacked, _, (done,), _ = env.step(expected)


def test_frames_of_images_are_whole_images_one_after_another(tmp_path: Path) -> None:
    folder = write_folder("godot", tmp_path, **KINDS["stack of images"])
    model = GodotModel(content(folder), {"action": GodotAction(3, "continuous")})
    policy = OnnxPolicy(tmp_path / "model" / "policy.onnx")
    (height, width, _) = policy.spec.observation_space.shape  # type: ignore[union-attr]
    rng = np.random.default_rng(0)
    state: Any = None
    frames = [np.zeros((height, width, 1), np.uint8)] * 4
    for _ in range(6):
        frames = [*frames[1:], rng.integers(0, 256, (height, width, 1), np.uint8)]
        expected, state = policy.predict(frames[-1], state)
        found = model.act({"obs": np.concatenate([each.reshape(-1) for each in frames]).tolist()})
        assert_close(found["action"], expected)


def test_every_branch_has_a_logit_above_zero(discrete: Path) -> None:
    """The plugin starts its search at 0, and negative logits alone would give value 0."""
    model = GodotModel(content(discrete), TWO)
    policy = OnnxPolicy(discrete.parent / "model" / "policy.onnx")
    chosen = set()
    for each in np.random.default_rng(0).normal(scale=20, size=(300, 3)).astype(np.float32):
        found = model.act({"obs": each.tolist()})
        expected, _ = policy.predict(each)
        assert [found["move"], found["jump"]] == expected.tolist()
        chosen.add(tuple(found.values()))
    assert len(chosen) > 3  # not always the same


def test_the_logits_have_the_policys_probabilities(tmp_path: Path) -> None:
    folder = write_folder("godot", tmp_path, action_space=spaces.Discrete(4))
    model, logits = GodotModel(content(folder), FOUR), logits_of(folder)
    for each in np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32):
        found, (expected,) = model.output({"obs": each.tolist()}), logits(row(each))
        assert found.max() == 1
        np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-6)


def test_other_files_are_refused(discrete: Path, tmp_path: Path) -> None:
    policy = (discrete.parent / "model" / "policy.onnx").read_bytes()
    unity = write_folder("unity", tmp_path, action_space=spaces.MultiDiscrete([3, 2]))
    for other in (policy, content(unity)):
        with pytest.raises(ExportError, match="needs the input state_ins"):
            GodotModel(other, TWO)
    with pytest.raises(ExportError, match="reads 4 numbers"):
        GodotModel(content(discrete), {"push": GodotAction(4, "discrete")})
    with pytest.raises(ExportError, match="cannot be run"):
        GodotModel(content(discrete), TWO).act({"obs": [0.0] * 4})
    with pytest.raises(ExportError, match="cannot be run"):
        GodotModel(content(discrete), TWO).act({"observation": [0.0] * 3})


@pytest.mark.parametrize(
    "change",
    [
        without_output("output"),
        without_output("state_outs"),
        rename("state_ins", "state"),
    ],
)
def test_each_break_of_the_contract_is_found(change: Any, discrete: Path) -> None:
    with pytest.raises(ExportError, match="would not take the file"):
        GodotModel(changed(content(discrete), change), TWO)


@pytest.mark.parametrize("key", ["output", "state_ins", "state_outs", "policy/x", "/game/x"])
def test_a_key_of_the_plugins_own_is_refused(key: str, tmp_path: Path) -> None:
    space = spaces.Dict({key: BOX, "other": BOX})
    onnx_path = make(tmp_path / "model", observation_space=space, policy="MultiInputPolicy")
    done = run_cli("export", onnx_path, "--target", "godot", "-o", tmp_path / "godot")
    done.assert_one_clear_line(repr(key), "train with another key")
    assert not (tmp_path / "godot").exists()


def export_agent(agent: Path, folder: Path, action_space: dict[str, GodotAction]) -> GodotModel:
    """Export one of RL Zoo's agents, for a controller made by hand."""
    export_policy(find_run(agent), folder / "policy.onnx", verify=False)
    to = TargetOptions("godot", folder / "godot", NAME)
    export_file(folder / "policy.onnx", to, verify=True)
    return GodotModel(content(folder / "godot"), action_space)
