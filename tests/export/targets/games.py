"""Folders of the targets for games, and episodes to compare with Stable-Baselines3's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnx
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from tests.export.policies import exported, make_model
from tests.export.targets.programs import make
from trpo_deploy.export import SourceOptions, TargetOptions, export_file
from trpo_deploy.export.certify.engines import load_engines
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.graph.distribution import PARAMETERS
from trpo_deploy.spec.spaces import Array

NAME = "pol"


def write_folder(target: str, folder: Path, *, verify: bool = False, **kind: Any) -> Path:
    """Export a policy of :data:`tests.export.targets.programs.KINDS` to a target."""
    onnx_path = make(folder / "model", **kind)
    export_file(onnx_path, TargetOptions(target, folder / target, NAME), verify=verify)
    return folder / target


def content(folder: Path) -> bytes:
    return (folder / f"{NAME}.onnx").read_bytes()


def row(observation: Any) -> Array:
    """A batch of one observation."""
    return np.array([observation], np.float32)


def stacked_cartpole(target: str, folder: Path) -> tuple[VecFrameStack, Any, Path]:
    """CartPole with three stacked frames, a model with random weights, its target's folder."""
    env = VecFrameStack(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")]), 3)
    model = make_model(env.observation_space, spaces.Discrete(2))
    exported(model, folder / "model", verify=False, reading=SourceOptions(frame_stack=3))
    to = TargetOptions(target, folder / target, NAME)
    export_file(folder / "model" / "policy.onnx", to, verify=True)
    return env, model, folder / target


def logits_of(folder: Path) -> Callable[[Array], Array]:
    """From observations to the logits of the ``policy.onnx`` that a folder was made from."""
    file = ExportedFile.parse((folder.parent / "model" / "policy.onnx").read_bytes())
    engine = load_engines(file.model, file.spec.inputs)["onnxruntime"]
    return lambda rows: engine.run({"obs": rows})[PARAMETERS]


def changed(file: bytes, change: Any) -> bytes:
    """A copy of a file whose model ``change`` has altered."""
    model = onnx.load_model_from_string(file)
    change(model)
    return bytes(model.SerializeToString())


def rename(old: str, new: str) -> Any:
    """A change for :func:`changed`: rename a tensor everywhere."""

    def change(model: onnx.ModelProto) -> None:
        for each in (*model.graph.input, *model.graph.output):
            each.name = new if each.name == old else each.name
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]

    return change


def without_output(name: str) -> Any:
    """A change for :func:`changed`: remove an output."""

    def change(model: onnx.ModelProto) -> None:
        kept = [each for each in model.graph.output if each.name != name]
        del model.graph.output[:]
        model.graph.output.extend(kept)

    return change


def episode(env: gymnasium.Env[Any, Any], act: Any, expected: Any, *, equal: Any) -> int:
    """Play an episode with an engine's actions and compare each with SB3's; return its length.

    Args:
        env: The environment.
        act: From an observation to the engine's action, for the environment.
        expected: From an observation to SB3's action.
        equal: Asserts that the two are equal.
    """
    observation, _ = env.reset(seed=3)
    for step in range(10_000):
        action = act(observation)
        equal(action, expected(observation))
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            return step + 1
    raise AssertionError("the episode does not end")


def assert_close(found: Any, expected: Any) -> None:
    """Two continuous actions; a few units in the last place of the action's range."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)
