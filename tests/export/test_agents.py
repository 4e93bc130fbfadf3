"""RL Zoo agents of 2021 are exported through the command line, without gym and pickles."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.command import run_cli
from trpo_deploy.envs.environment import Environment, find_environment
from trpo_deploy.envs.episode import play
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.sb3.policy_zip import read_policy_zip

AGENTS = {
    "CartPole-v1_1": "CartPole-v1",
    "MountainCar-v0_1": "MountainCar-v0",
    "Pendulum-v1_1": "Pendulum-v1",
    "HalfCheetah-v3_1": "HalfCheetah-v5",
}
EPISODES = 20


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_is_exported_verified_and_reaches_its_return(
    name: str, agents: Path, tmp_path: Path
) -> None:
    onnx = tmp_path / "policy.onnx"
    # Of Pendulum, 48 episodes are played, as by default; of the others 16, which are longer.
    limit = () if name == "Pendulum-v1_1" else ("--seconds", 1)
    exported = run_cli("export", agents / name, "-o", onnx, *limit)
    assert exported.code == 0, exported.error
    assert "certificate: the same policy" in exported.output
    assert json.loads((tmp_path / "certificate.json").read_text())["verdict"] == "pass"
    # The export has compared the returns already, over many episodes.
    verified = run_cli("verify", agents / name, onnx, "--steps", 1000, "--seconds", 0)
    assert verified.code == 0, verified.error

    policy = OnnxPolicy(onnx)
    environment = find_environment(
        Environment(AGENTS[name]), policy.spec.observation_space, policy.spec.action_space
    )
    returns = play(environment, policy.predict, range(EPISODES)).returns
    with np.load(agents / name / "evaluations.npz") as evaluations:
        expected = evaluations["results"][-1]
    # The same policy in the current environment: the means of two samples of twenty episodes
    # differ by at most three standard errors, plus 2 % for the changes in MuJoCo and v3 -> v5.
    spread = np.sqrt((expected.var() + returns.var()) / EPISODES)
    assert abs(returns.mean() - expected.mean()) <= 3 * spread + 0.02 * abs(expected.mean())


@pytest.mark.parametrize("name", [*AGENTS, "ReacherBulletEnv-v0_1"])
def test_no_pickled_function_is_called(
    name: str, agents: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding only makes records; every other way to unpickle is blocked."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a pickle was loaded outside the restricted reader")

    for module in ("pickle", "cloudpickle"):
        monkeypatch.setattr(f"{module}.loads", refuse)
        monkeypatch.setattr(f"{module}.load", refuse)
    env_id = name.removesuffix("_1")
    read = read_policy_zip(agents / name / f"{env_id}.zip")
    assert read.algorithm == "TRPO"
    assert "lr_schedule" in read.skipped  # a pickled function
    assert read.build_policy() is not None
