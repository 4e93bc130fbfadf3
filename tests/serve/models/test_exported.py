"""The service's answer equals the prediction of the Stable-Baselines3 model behind the export."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import orjson
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from trpo_deploy.export import export_policy
from trpo_deploy.files.runs import find_run
from trpo_deploy.serve.models.own_registry import own_registry
from trpo_deploy.serve.protocols.predict import Predictor
from trpo_deploy.serve.protocols.predict_request import PredictRequest
from trpo_deploy.serve.settings import Settings


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_served_actions_equal_those_of_stable_baselines3(tmp_path: Path, env_id: str) -> None:
    folder = tmp_path / env_id
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make(env_id)]), norm_reward=False)
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, device="cpu", seed=0)
    model.learn(128)
    env.training = False
    folder.mkdir()
    model.save(folder / "policy.zip")
    env.save(str(folder / "vecnormalize.pkl"))
    export_policy(find_run(folder), folder / "policy.onnx", verify=False)
    # Valid observations: the environment's own.
    raw = np.stack([gymnasium.make(env_id).reset(seed=seed)[0] for seed in range(40)])
    want, _ = model.predict(np.asarray(env.normalize_obs(raw)), deterministic=True)
    settings = Settings(models=(folder,))
    reply = Predictor(own_registry(settings)[0], settings).reply(PredictRequest(raw.tolist()))
    # SB3's own results differ between batch sizes by about 1e-6 on actions up to 2.
    np.testing.assert_allclose(orjson.loads(reply.body)["action"], want, atol=1e-5)
