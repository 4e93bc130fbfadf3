"""RL Zoo's run folders: configuration, wrappers, frame stacks; also ``inspect`` and the card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from tests.command import run_cli
from tests.export.policies import BOX, SpaceEnv, make_model, save, statistics_for
from trpo_deploy.envs.environment import Environment, find_environment
from trpo_deploy.export import export_policy
from trpo_deploy.files.runs import find_run
from trpo_deploy.runtime import OnnxPolicy

ATARI = """!!python/object/apply:collections.OrderedDict
- - - env_wrapper
    - - stable_baselines3.common.atari_wrappers.AtariWrapper
  - - frame_stack
    - 4
  - - n_envs
    - 8
  - - normalize
    - false
  - - policy
    - CnnPolicy
"""


def zoo(folder: Path, env_id: str, model: Any, config: str, arguments: str = "{}") -> Path:
    inner = folder / env_id
    inner.mkdir(parents=True)
    model.save(folder / f"{env_id}.zip")
    (inner / "config.yml").write_text(config)
    (inner / "args.yml").write_text(arguments)
    return folder


@pytest.mark.slow
def test_an_atari_run_is_exported_without_its_game_installed(tmp_path: Path) -> None:
    """Four 84x84 frames, transposed by SB3: the file takes one frame and the three before it."""
    stacked = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    model = make_model(stacked, spaces.Discrete(6), "CnnPolicy", algorithm=PPO)
    folder = zoo(tmp_path / "run", "PongNoFrameskip-v4", model, ATARI)
    run = run_cli("export", folder, "-o", tmp_path / "policy.onnx")
    assert run.code == 0, run.error
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    assert [each.shape for each in policy.spec.inputs] == [(84, 84, 1), (84, 84, 3)]
    assert "AtariWrapper" in policy.spec.preprocessing[0]
    frames = np.random.default_rng(0).integers(0, 256, (1, 84, 84, 6), np.uint8)
    state = None
    for step in range(6):
        found, state = policy.predict(frames[..., step : step + 1], state)
        seen = np.zeros((1, 84, 84, 4), np.uint8)
        first = max(0, step - 3)
        seen[..., first - step - 1 :] = frames[..., first : step + 1]
        expected, _ = model.predict(seen, deterministic=True)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("order", ["normalise, stack", "stack, normalise"])
def test_normalised_stacks_play_as_in_sb3(order: str, tmp_path: Path) -> None:
    """Compare SB3's wrappers with the file over an episode of CartPole."""

    def make() -> Any:
        return DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])

    env: Any = VecNormalize(make()) if order.startswith("n") else VecFrameStack(make(), 3)
    env = VecFrameStack(env, 3) if order.startswith("n") else VecNormalize(env)
    model = make_model(env.observation_space, spaces.Discrete(2), algorithm=PPO)
    env.reset()
    for _ in range(50):
        env.step(np.array([env.action_space.sample()]))
    folder = zoo(tmp_path / "run", "CartPole-v1", model, "normalize: true\nframe_stack: 3\n")
    statistics = env if order.startswith("s") else env.venv
    statistics.save(str(folder / "CartPole-v1" / "vecnormalize.pkl"))
    statistics.training = False
    result = export_policy(find_run(folder), tmp_path / "policy.onnx")
    assert result.certificate is not None
    assert result.certificate.environment["env_id"] == "CartPole-v1"
    policy = OnnxPolicy(result.path)
    env.seed(7)
    observation = env.reset()
    with gymnasium.make("CartPole-v1") as raw:
        frame, _ = raw.reset(seed=7)
        state, done = None, False
        while not done:
            expected, _ = model.predict(observation, deterministic=True)
            found, state = policy.predict(frame, state)
            assert found == expected[0]
            observation, *_ = env.step(expected)
            frame, _, terminated, truncated, _ = raw.step(found)
            done = terminated or truncated


def test_a_stack_in_vec_env_wrapper_becomes_the_files_state(tmp_path: Path) -> None:
    model = make_model(spaces.Box(-9.0, 9.0, (12,)), spaces.Discrete(2), algorithm=PPO)
    wrapper = "stable_baselines3.common.vec_env.VecFrameStack: {n_stack: 3}"
    folder = zoo(tmp_path / "run", "Some-v0", model, f"vec_env_wrapper: [{{{wrapper}}}]\n")
    spec = export_policy(find_run(folder), tmp_path / "policy.onnx").spec
    assert [each.shape for each in spec.inputs] == [(4,), (8,)]


def test_an_unknown_vec_env_wrapper_is_refused_by_name(tmp_path: Path) -> None:
    config = "vec_env_wrapper: mine.vec.Shift\n"
    folder = zoo(tmp_path / "run", "Some-v0", make_model(), config)
    run = run_cli("export", folder, "-o", tmp_path / "policy.onnx")
    run.assert_one_clear_line("mine.vec.Shift", "vec_env_wrapper")
    assert not (tmp_path / "policy.onnx").exists()


def test_arguments_of_the_environment_are_found(tmp_path: Path) -> None:
    model = make_model(spaces.Discrete(16), spaces.Discrete(4), algorithm=PPO)
    arguments = "env_kwargs:\n  is_slippery: false\n"
    folder = zoo(tmp_path / "run", "FrozenLake-v1", model, "normalize: false\n", arguments)
    result = export_policy(find_run(folder), tmp_path / "policy.onnx")
    assert result.certificate is not None
    assert result.certificate.environment["kwargs"] == {"is_slippery": False}


def test_an_unknown_wrapper_is_not_imported(tmp_path: Path) -> None:
    """Only known wrappers are imported; the certificate names the others."""
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    model = make_model(BOX, spaces.Discrete(2))
    config = "env_wrapper: evil.Wrapper\n"
    folder = zoo(tmp_path / "run", "CartPole-v1", model, config)
    run = run_cli("export", folder, "-o", tmp_path / "policy.onnx", cwd=tmp_path)
    assert run.code == 0, run.error
    assert "evil:Wrapper, which is not a wrapper of a known library" in run.output


def test_no_normalize_check_allows_missing_statistics(tmp_path: Path) -> None:
    folder = zoo(tmp_path / "run", "Some-v0", make_model(), "normalize: true\n")
    run = run_cli("export", folder, "-o", tmp_path / "policy.onnx", "--no-normalize-check")
    assert run.code == 0, run.error
    assert OnnxPolicy(tmp_path / "policy.onnx").spec.normalizer is None


def test_the_best_model_of_a_run_uses_the_runs_configuration(tmp_path: Path) -> None:
    folder = zoo(tmp_path / "run", "Some-v0", make_model(), "normalize: true\n")
    make_model(seed=1).save(folder / "best_model.zip")
    statistics_for(BOX).save(str(folder / "Some-v0" / "vecnormalize.pkl"))
    assert find_run(folder).policy_zip.name == "Some-v0.zip"
    best = find_run(folder / "best_model.zip")
    assert best.settings.env_id == "Some-v0"
    assert best.vecnormalize == folder / "Some-v0" / "vecnormalize.pkl"


def test_a_frame_stack_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    save(make_model(), tmp_path)
    run_cli("export", tmp_path, "--frame-stack", 2).assert_one_clear_line("not a stack of 2")
    assert run_cli("export", tmp_path, "--frame-stack", 0).code == 2


def test_the_image_layout_is_read_from_the_environment(tmp_path: Path) -> None:
    image = spaces.Box(0, 255, (36, 40, 3), np.uint8)
    gymnasium.register("Picture-v0", lambda **_: SpaceEnv(image, spaces.Discrete(2)))
    try:
        model = make_model(image, spaces.Discrete(2), "CnnPolicy")
        folder = zoo(tmp_path / "run", "Picture-v0", model, "normalize: false\n")
        result = export_policy(find_run(folder), tmp_path / "policy.onnx")
        assert result.spec.inputs[0].shape == (36, 40, 3)
        policy = OnnxPolicy(result.path)
        spec = policy.spec
        find_environment(Environment("Picture-v0"), spec.observation_space, spec.action_space)
    finally:
        del gymnasium.registry["Picture-v0"]


def test_inspect_prints_the_whole_contract(tmp_path: Path) -> None:
    save(make_model(BOX, spaces.Discrete(3)), tmp_path, statistics_for(BOX))
    assert run_cli("export", tmp_path, "--add-output", "margin", "--guard").code == 0
    text = run_cli("inspect", tmp_path).output
    for part in (
        "obs: float32 (batch, 3)",
        "action: int64 (batch)",
        "margin: float32 (batch)",
        "obs_ok: bool (batch)",
        "normalise: clip((x - mean) / std, -10, 10)",
        "the most probable one",
        "certificate: the same policy",
        "NaN",
    ):
        assert part in text
    value = json.loads(run_cli("inspect", tmp_path, "--json").output)
    assert value["guard"] == {"output": "obs_ok", "action": 0}
    assert value["certificate"]["sha256"]["policy.onnx"] == value["sha256"]
    assert value["size"] == (tmp_path / "policy.onnx").stat().st_size


def test_the_card_keeps_the_other_text_of_the_readme(tmp_path: Path) -> None:
    source = save(make_model(), tmp_path)
    (tmp_path / "README.md").write_text("# A run\n\nIts curve.\n")
    for _ in range(2):
        result = export_policy(source, tmp_path / "policy.onnx")
        assert result.card == tmp_path / "README.md"
        text = result.card.read_text()
        assert text.startswith("# A run\n\nIts curve.\n")
        assert text.count("## policy.onnx") == 1
        assert "NaN is undefined" in text
    elsewhere = export_policy(source, tmp_path / "other" / "robot.onnx")
    assert elsewhere.card.name == "robot.md"
    assert {path.name for path in elsewhere.path.parent.iterdir()} == {
        "robot.onnx",
        "robot.certificate.json",
        "robot.policy.json",
        "robot.md",
    }


@pytest.mark.parametrize(
    "space", [spaces.Discrete(4, start=-2), spaces.MultiDiscrete([2, 3], start=[1, -4])]
)
def test_discrete_actions_of_sb3_are_those_that_it_sent(
    space: spaces.Space[Any], tmp_path: Path
) -> None:
    """SB3 counts actions from zero, whatever the start of their space."""
    model = make_model(BOX, space, algorithm=PPO)
    model.save(tmp_path / "model.zip")
    export_policy(find_run(tmp_path / "model.zip"), tmp_path / "model.onnx")
    observations = np.random.default_rng(0).uniform(-1, 1, (64, 3)).astype(np.float32)
    expected, _ = model.predict(observations, deterministic=True)
    found, _ = OnnxPolicy(tmp_path / "model.onnx").predict(observations)
    np.testing.assert_array_equal(found, expected)


def test_actions_of_other_units_are_refused(tmp_path: Path) -> None:
    """A policy that was trained behind RescaleAction acts in [-1, 1], Pendulum in [-2, 2]."""
    action = spaces.Box(-1.0, 1.0, (1,), np.float32)
    make_model(BOX, action, algorithm=PPO).save(tmp_path / "model.zip")
    onnx = tmp_path / "p.onnx"
    run = run_cli("export", tmp_path / "model.zip", "--env", "Pendulum-v1", "-o", onnx)
    run.assert_one_clear_line("Box(-2.0, 2.0", "[-1, 1]")
    assert not onnx.exists()
