"""Images and stacks whose layout their shape does not show: the file plays as the model trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from tests.command import run_cli
from tests.export.policies import FEATURES, SpaceEnv, randomize
from tests.export.test_sources import zoo
from trpo_deploy.errors import SpaceError
from trpo_deploy.export import SourceOptions, export_model, export_policy
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import OnnxPolicy

pytestmark = pytest.mark.filterwarnings("ignore:Treating image space as channels-last")

ENV_ID = "Planes-v0"
PLANES = """
import gymnasium, numpy as np
from gymnasium import spaces


class Planes(gymnasium.Env):
    observation_space = spaces.Box(0, 255, {shape}, np.uint8)
    action_space = spaces.Discrete(3)

    def observe(self):
        picture = np.random.default_rng(self.step_number).integers(0, 256, {shape}, np.uint8)
        return picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_number = 0
        return self.observe(), {{}}

    def step(self, action):
        reward = float(np.sin(1.0 + 7.0 * self.step_number + 2.0 * int(action)))
        self.step_number += 1
        return self.observe(), reward, False, self.step_number == 40, {{}}


gymnasium.register("Planes-v0", Planes)
"""


@contextmanager
def registered(space: spaces.Space[Any]) -> Iterator[None]:
    gymnasium.register(ENV_ID, lambda **_: SpaceEnv(space, spaces.Discrete(5)))
    try:
        yield
    finally:
        del gymnasium.registry[ENV_ID]


def model_of(env: Any, policy: str) -> PPO:
    features = {"features_extractor_kwargs": FEATURES.get(policy, {})}
    model = PPO(policy, env, n_steps=8, batch_size=8, policy_kwargs=features)
    randomize(model.policy)
    return model


def plays_as(model: PPO, path: Path, space: spaces.Space[Any]) -> None:
    """Compare a file, given raw frames, with the model in its own environment."""
    policy, env = OnnxPolicy(path), model.get_env()
    assert env is not None
    bare: Any = env.unwrapped
    observation, state = env.reset(), None
    for _ in range(4):
        expected, _ = model.predict(observation, deterministic=True)  # type: ignore[arg-type]
        raw = bare._obs_from_buf()
        found, state = policy.predict(dict(raw) if isinstance(space, spaces.Dict) else raw, state)
        np.testing.assert_array_equal(found, expected)
        observation, *_ = env.step(expected)


def image(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, np.uint8)


CASES: dict[str, tuple[spaces.Space[Any], int, str]] = {
    "cube": (image(3, 3, 3), 1, "MlpPolicy"),
    "cubes stacked": (image(4, 4, 4), 2, "MlpPolicy"),
    "narrow": (image(64, 2, 3), 1, "MlpPolicy"),
    "narrower than its channels": (image(40, 3, 4), 1, "MlpPolicy"),
    "as wide as its channels": (image(9, 3, 3), 1, "MlpPolicy"),
    "36x36x3 x4": (image(36, 36, 3), 4, "CnnPolicy"),
    "10x10x1 x8": (image(10, 10, 1), 8, "MlpPolicy"),
    "36x36x1 x12": (image(36, 36, 1), 12, "CnnPolicy"),
    "more channels than rows": (image(8, 8, 3), 4, "MlpPolicy"),
    "cube of frames": (image(8, 8, 2), 4, "MlpPolicy"),
    "matrix": (spaces.Box(-1.0, 1.0, (8, 12)), 4, "MlpPolicy"),
    "Dict": (
        spaces.Dict({"eye": image(36, 36, 3), "joints": spaces.Box(-1.0, 1.0, (4, 2))}),
        4,
        "MultiInputPolicy",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_policy_of_images_plays_as_it_was_trained(case: str, tmp_path: Path) -> None:
    space, n_stack, kind = CASES[case]
    env: Any = DummyVecEnv([lambda: SpaceEnv(space, spaces.Discrete(5))])
    if n_stack > 1:
        env = VecFrameStack(env, n_stack)
    model = model_of(env, kind)
    stack = f"frame_stack: {n_stack}\n" if n_stack > 1 else ""
    folder = zoo(tmp_path / "run", ENV_ID, model, f"normalize: false\n{stack}")
    with registered(space):
        result = export_policy(find_run(folder), tmp_path / "files.onnx", steps=20)
    assert result.certificate is not None
    assert result.certificate.environment["env_id"] == ENV_ID
    plays_as(model, result.path, space)
    plays_as(model, export_model(model, tmp_path / "memory.onnx", steps=20).path, space)


@pytest.mark.parametrize("axis", ["first", "last"])
def test_the_axis_of_a_stack_is_read_from_the_environment(axis: str, tmp_path: Path) -> None:
    space = spaces.Box(-1.0, 1.0, (8, 12))
    bare = DummyVecEnv([lambda: SpaceEnv(space, spaces.Discrete(5))])
    model = model_of(VecFrameStack(bare, 4, channels_order=axis), "MlpPolicy")
    plays_as(model, export_model(model, tmp_path / "memory.onnx", steps=20).path, space)
    folder = zoo(tmp_path / "run", ENV_ID, model, "normalize: false\nframe_stack: 4\n")
    with registered(space):
        result = export_policy(find_run(folder), tmp_path / "files.onnx", steps=20)
    plays_as(model, result.path, space)


@pytest.mark.parametrize("axis", ["first", "last"])
def test_an_axis_that_nothing_tells_is_refused(axis: str, tmp_path: Path) -> None:
    """A zip on its own: of 16x4 numbers, four frames have 4x4 or 16x1."""
    space = spaces.Box(-1.0, 1.0, (4, 4))
    bare = DummyVecEnv([lambda: SpaceEnv(space, spaces.Discrete(5))])
    model = model_of(VecFrameStack(bare, 4, channels_order=axis), "MlpPolicy")
    model.save(tmp_path / "model.zip")
    path, source = tmp_path / "policy.onnx", (tmp_path / "model.zip", "--frame-stack", 4)
    refused = run_cli("export", *source, "-o", path)
    shapes = "(4, 4) or (16, 1)" if axis == "first" else "(1, 16) or (4, 4)"
    refused.assert_one_clear_line(shapes, "--env", "config.yml")
    assert not path.exists()
    with pytest.raises(SpaceError, match="channels_order"):
        export_model(model.policy, path, reading=SourceOptions(frame_stack=4))
    with registered(space):
        run = run_cli("export", *source, "-o", path, "--env", ENV_ID)
        assert run.code == 0, run.error
        plays_as(model, path, space)
        named = SourceOptions(frame_stack=4, env_id=ENV_ID)
        plays_as(model, export_model(model.policy, path, reading=named).path, space)


def test_statistics_tell_the_axis_of_a_stack(tmp_path: Path) -> None:
    space = spaces.Box(-1.0, 1.0, (4, 4))
    inner = VecNormalize(DummyVecEnv([lambda: SpaceEnv(space, spaces.Discrete(5))]))
    model = model_of(VecFrameStack(inner, 4, channels_order="first"), "MlpPolicy")
    inner.training = False
    model.save(tmp_path / "model.zip")
    inner.save(str(tmp_path / "vecnormalize.pkl"))
    path = tmp_path / "policy.onnx"
    run = run_cli("export", tmp_path / "model.zip", "--frame-stack", 4, "-o", path)
    assert run.code == 0, run.error
    plays_as(model, path, space)


@pytest.mark.parametrize("named", [None, 2, 3, 5])
def test_the_right_number_of_frames_is_named(named: int | None, tmp_path: Path) -> None:
    """It follows from the shapes: 12 numbers in the zip, 3 in the environment."""
    bare = DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")])
    model_of(VecFrameStack(bare, 4), "MlpPolicy").save(tmp_path / "model.zip")
    stack = () if named is None else ("--frame-stack", named)
    run = run_cli("export", tmp_path / "model.zip", "--env", "Pendulum-v1", *stack, cwd=tmp_path)
    run.assert_one_clear_line("(12,)", "(3,)", "--frame-stack 4")
    assert not (tmp_path / "model.onnx").exists()


def test_a_stack_that_the_environment_makes_itself_needs_no_frame_stack(tmp_path: Path) -> None:
    bare = DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")])
    model_of(bare, "MlpPolicy").save(tmp_path / "model.zip")
    run = run_cli("export", tmp_path / "model.zip", "--env", "Pendulum-v1", "--frame-stack", 3)
    run.assert_one_clear_line("(3,)", "--frame-stack 1")


def test_statistics_of_images_need_the_environment_only_where_they_do_not_tell(
    tmp_path: Path,
) -> None:
    """SB3 makes the space of normalised images floats; the file takes the environment's uint8."""
    space = image(36, 40, 3)
    env = VecNormalize(DummyVecEnv([lambda: SpaceEnv(space, spaces.Discrete(5))]))
    env.reset()
    for _ in range(20):
        env.step(np.zeros(1, np.int64))
    env.training = False
    model = model_of(env, "MlpPolicy")
    folder = tmp_path / "run"
    folder.mkdir()
    model.save(folder / "model.zip")
    env.save(str(folder / "vecnormalize.pkl"))
    arguments = (folder / "model.zip", "--vecnormalize", folder / "vecnormalize.pkl")
    path = tmp_path / "policy.onnx"
    refused = run_cli("export", *arguments, "-o", path)
    refused.assert_one_clear_line("(36, 40, 3) or (40, 3, 36)", "--image-layout", "--env")
    with registered(space):
        run = run_cli("export", *arguments, "-o", path, "--env", ENV_ID)
    assert run.code == 0, run.error
    assert OnnxPolicy(path).spec.inputs[0].dtype == "uint8"
    plays_as(model, path, space)


@pytest.mark.parametrize("shape", [(3, 3, 3), (12, 2, 3), (8, 8, 3)])
def test_train_and_both_evaluations_agree(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Every episode is the same, so the returns must be equal."""
    (tmp_path / "planes.py").write_text(PLANES.format(shape=shape))
    sets = [f"--set={each}" for each in ("n_steps=256", "normalize=false", "policy=MlpPolicy")]
    stack = ["--set=frame_stack=4"] if shape[-1] == 3 and shape[0] == 8 else []
    run = run_cli(
        *("train", "planes:Planes-v0", "-o", "run", "-n", 512, "--n-envs", 1, *sets, *stack),
        *("--eval-every", 512, "--eval-episodes", 1, "--no-progress"),
        cwd=tmp_path,
    )
    assert run.code == 0, run.error
    with np.load(tmp_path / "run" / "evaluations.npz") as file:
        trained = float(file["results"][-1].mean())
    for backend in ("onnx", "torch"):
        played = run_cli(
            *("evaluate", "run", "--backend", backend, "--episodes", 2, "--json"), cwd=tmp_path
        )
        assert played.code == 0, played.error
        assert json.loads(played.output)["return_mean"] == pytest.approx(trained)
