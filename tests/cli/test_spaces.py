"""Each space that ``train`` accepts goes the whole way: train, evaluate, serve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.command import run_cli
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.models.own_registry import own_registry
from trpo_deploy.serve.settings import Settings

WORLD = """
import gymnasium
import numpy as np
from gymnasium import spaces

BOX = spaces.Box(-1, 1, (3,), np.float32)
FLAGS = spaces.Box(0, 1, (2, 3), np.bool_)
SPACES = {
    "Flags-v0": FLAGS,
    "Mask-v0": spaces.Dict({"mask": FLAGS, "obs": BOX}),
    "OnlyObs-v0": spaces.Dict({"obs": BOX}),
    "OnlyFlags-v0": spaces.Dict({"obs": FLAGS}),
    "Names-v0": spaces.Dict({"action": BOX, "value": FLAGS, "obs_action": BOX}),
    "State-v0": spaces.Dict({"a": BOX, "state_a": BOX}),
}


class World(gymnasium.Env):
    action_space = spaces.Discrete(3)

    def __init__(self, name):
        self.observation_space = SPACES[name]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), float(action), False, self.steps >= 20, {}


for name in SPACES:
    gymnasium.register(name, entry_point=World, kwargs={"name": name})
"""


@pytest.mark.parametrize(
    ("env_id", "normalize"),
    [
        ("Flags-v0", False),
        ("Mask-v0", False),
        ("OnlyObs-v0", False),
        ("OnlyObs-v0", True),
        ("OnlyFlags-v0", False),
        ("Names-v0", False),
        ("State-v0", True),
    ],
)
def test_what_is_trained_can_be_evaluated_and_served(
    env_id: str, normalize: bool, tmp_path: Path
) -> None:
    (tmp_path / "world.py").write_text(WORLD)
    policy = "MultiInputPolicy" if env_id != "Flags-v0" else "MlpPolicy"
    settings = ("--set", f"policy={policy}", "--set", f"normalize={str(normalize).lower()}")
    train = ("train", f"world:{env_id}", "-o", "run", "-n", 256, "--eval-episodes", 1)
    run = run_cli(*train, *settings, "--set", "n_steps=128", cwd=tmp_path)
    assert run.code == 0, run.error
    assert "certificate: the same policy" in run.output
    returns = []
    for backend in ("onnx", "torch"):
        evaluate = ("evaluate", "run", "--backend", backend, "--episodes", 2, "--json")
        evaluated = run_cli(*evaluate, cwd=tmp_path)
        assert evaluated.code == 0, evaluated.error
        returns.append(json.loads(evaluated.output)["returns"])
    assert returns[0] == returns[1]
    registry, _ = own_registry(Settings(models=(tmp_path / "run",)))  # what serve and bundle load
    entry = registry.entries["run"]
    assert entry.error is None
    assert entry.latest is not None
    golden = json.loads((tmp_path / "run" / "certificate.json").read_text())["golden"]
    actions, _ = OnnxPolicy(tmp_path / "run" / "policy.onnx").predict(golden["observation"])
    np.testing.assert_array_equal(actions, golden["action"])
