"""EnvPool's environments: what they do not support is refused, and what they import."""

from __future__ import annotations

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from tests.train.vec_env.helpers import make
from trpo_deploy.errors import ConfigError, EnvError


def test_seeding_resets_environments_that_were_stepped_before_a_reset() -> None:
    starts = []
    for steps in (0, 3):
        env = make("CartPole-v1", "envpool", seed=1)
        for _ in range(steps):
            env.step(np.zeros(2, np.int64))
        env.seed(1)
        starts.append(env.reset())
        env.close()
    np.testing.assert_array_equal(*starts)


def test_what_envpool_does_not_support_is_refused() -> None:
    pytest.importorskip("envpool")
    gymnasium.register("Stacks-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv")
    with pytest.raises(EnvError, match="EnvPool has no environment Stacks-v0"):
        make("Stacks-v0", "envpool")
    with pytest.raises(ConfigError, match="EnvPool does not support env_wrapper"):
        make("CartPole-v1", "envpool", settings=["frame_stack=2"])
    with pytest.raises(EnvError, match="wings"):
        make("CartPole-v1", "envpool", env_args=["wings=2"])


def test_mujoco_does_not_import_envpools_other_environments() -> None:
    pytest.importorskip("envpool")
    program = """
import sys
from trpo_deploy.train import load_config
from trpo_deploy.train.run.environments import make_training_env

for env_id, everything in (("Hopper-v5", False), ("CartPole-v1", True), ("Ant-v5", True)):
    make_training_env(load_config(env_id, vec_env="envpool", n_envs=2)).reset()
    assert ("envpool.atari" in sys.modules) is everything, env_id
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


_INTERRUPTED = """
def interrupted(name):
    import envpool
    raise KeyboardInterrupt

whole, importlib.import_module = importlib.import_module, interrupted
try:
    import_envpool("Hopper-v5")
except KeyboardInterrupt:
    importlib.import_module = whole
envpool = import_envpool("Hopper-v5")
"""
_THREADS = """
with ThreadPoolExecutor() as pool:
    envpool, *_ = list(pool.map(import_envpool, ["Hopper-v5", "CartPole-v1"] * 4))
"""


@pytest.mark.parametrize("way", [_INTERRUPTED, _THREADS], ids=["interrupted", "threads"])
def test_envpool_is_complete_after_an_interrupted_or_concurrent_import(way: str) -> None:
    pytest.importorskip("envpool")
    program = f"""
import importlib
from concurrent.futures import ThreadPoolExecutor
from trpo_deploy.train.vec_env.envpool_import import import_envpool
{way}
assert {{"Hopper-v5", "CartPole-v1"}} <= set(envpool.list_all_envs())
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)
