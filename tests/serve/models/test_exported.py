"""The whole way: a policy of Stable-Baselines3, exported, served, and still the same policy."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.serve.server import running
from trpo_deploy.export import export_policy
from trpo_deploy.files.runs import find_run


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_what_is_served_is_what_stable_baselines_predicts(tmp_path: Path, env_id: str) -> None:
    folder = tmp_path / env_id
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make(env_id)]), norm_reward=False)
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, device="cpu", seed=0)
    model.learn(128)
    env.training = False
    folder.mkdir()
    model.save(folder / "policy.zip")
    env.save(str(folder / "vecnormalize.pkl"))
    export_policy(find_run(folder), folder / "policy.onnx", verify=False)
    # Legal observations: those of the environment itself.
    raw = np.stack([gymnasium.make(env_id).reset(seed=seed)[0] for seed in range(40)])
    want, _ = model.predict(env.normalize_obs(raw), deterministic=True)
    with running(folder) as server:
        got = np.asarray(server.predict(raw.tolist()).json()["action"])
    # SB3 is not bit-equal to itself between batches; some 1e-6 on actions up to 2.
    np.testing.assert_allclose(got, want, atol=1e-5)
