"""``export_model``: models and policies that are in memory."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import RescaleAction
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from tests.command import run_cli
from tests.export.policies import BOX, SpaceEnv, make_model, randomize
from trpo_deploy import TRPO
from trpo_deploy.errors import ExportError
from trpo_deploy.export import export_model


def test_frame_stack_and_image_layout_are_read_from_the_wrappers(tmp_path: Path) -> None:
    image = spaces.Box(0, 255, (36, 40, 1), np.uint8)
    env = VecFrameStack(DummyVecEnv([lambda: SpaceEnv(image, spaces.Discrete(3))]), 3)
    model = TRPO("CnnPolicy", env)
    randomize(model.policy)
    result = export_model(model, tmp_path / "policy.onnx")
    assert [tensor.shape for tensor in result.spec.inputs] == [(36, 40, 1), (36, 40, 2)]


def test_the_normaliser_is_read_from_the_wrappers(tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([lambda: SpaceEnv(BOX, spaces.Discrete(3))]))
    result = export_model(TRPO("MlpPolicy", env), tmp_path / "policy.onnx")
    assert result.spec.normalizer is not None


def test_a_policy_without_its_model_has_no_normaliser(tmp_path: Path) -> None:
    result = export_model(make_model().policy, tmp_path / "policy.onnx")
    assert result.spec.normalizer is None


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    ("algorithm", "policy", "named"),
    [
        (SAC, "MlpPolicy", "SACPolicy"),
        (DQN, "MlpPolicy", "DQNPolicy"),
        (QRDQN, "MlpPolicy", "QRDQNPolicy"),
        (MaskablePPO, "MlpPolicy", "MaskableActorCriticPolicy"),
        (RecurrentPPO, "MlpLstmPolicy", "RecurrentActorCriticPolicy"),
    ],
)
def test_a_policy_of_an_unsupported_algorithm_is_refused(
    algorithm: type[BaseAlgorithm], policy: str, named: str, verify: bool, tmp_path: Path
) -> None:
    actions = BOX if algorithm is SAC else spaces.Discrete(2)
    model = make_model(BOX, actions, policy, algorithm=algorithm)
    with pytest.raises(ExportError, match=f"{named}, which is not supported; supported: Mlp"):
        export_model(model, tmp_path / "policy.onnx", verify=verify)
    assert list(tmp_path.iterdir()) == []


def test_a_zip_cannot_verify_a_file_with_the_wrappers_of_a_model_in_memory(tmp_path: Path) -> None:
    def model_of(seed: int) -> PPO:
        bound = np.ones(1, np.float32)
        env = RescaleAction(gymnasium.make("Pendulum-v1"), -bound, bound)
        return PPO("MlpPolicy", env, n_steps=8, batch_size=8, seed=seed)

    onnx = tmp_path / "memory.onnx"
    export_model(model_of(0), onnx, verify=False)
    for seed in (0, 1):
        model_of(seed).save(tmp_path / f"{seed}.zip")
    same = run_cli("verify", tmp_path / "0.zip", onnx)
    same.assert_one_clear_line(
        "has the weights of this policy", "gymnasium.wrappers:RescaleAction", "export_model"
    )
    other = run_cli("verify", tmp_path / "1.zip", onnx)
    assert other.code == 1
    assert "NOT the same policy" in other.output
