"""One TRPO update, ours against sb3-contrib's, on the same rollouts, over batch and width.

Both algorithms are given the same parameters and the same rollout, and update in turn; the
ratio of a pair is theirs over ours, so above one is faster. Run it with

    python benchmarks/update_speed.py [--rounds N] [-o FOLDER]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import sb3_contrib
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from trpo_deploy import TRPO

# observation, action, policy, rollout size, hidden width
CASES: list[tuple[str, str, int, int]] = [
    ("box 17 -> 6", "MlpPolicy", 1024, 64),
    ("box 17 -> 6", "MlpPolicy", 2048, 32),
    ("box 17 -> 6", "MlpPolicy", 2048, 64),
    ("box 17 -> 6", "MlpPolicy", 2048, 256),
    ("box 17 -> 6", "MlpPolicy", 2048, 512),
    ("box 17 -> 6", "MlpPolicy", 16384, 64),
    ("box 4 -> discrete 2", "MlpPolicy", 1024, 64),
    ("image 36x36 -> discrete 4", "CnnPolicy", 256, 64),
]
SPACES: dict[str, tuple[spaces.Space[Any], spaces.Space[Any]]] = {
    "box 17 -> 6": (spaces.Box(-1, 1, (17,)), spaces.Box(-1, 1, (6,))),
    "box 4 -> discrete 2": (spaces.Box(-1, 1, (4,)), spaces.Discrete(2)),
    "image 36x36 -> discrete 4": (
        spaces.Box(0, 255, (36, 36, 1), np.uint8),
        spaces.Discrete(4),
    ),
}


class Noise(gymnasium.Env[Any, Any]):
    """Random observations and rewards, at no cost."""

    def __init__(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode that never ends."""
        super().reset(seed=seed, options=options)
        return self.observation_space.sample(), {}

    def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step, whatever the action."""
        return self.observation_space.sample(), self.np_random.normal(), False, False, {}


def prepared(algorithm: type[Any], case: tuple[str, str, int, int]) -> Any:
    """A model with a full rollout, the same for both algorithms."""
    name, policy, size, width = case
    env = DummyVecEnv([lambda: Noise(*SPACES[name])])
    model = algorithm(
        policy,
        env,
        n_steps=size,
        batch_size=128,
        cg_max_steps=15,
        n_critic_updates=5,
        seed=0,
        device="cpu",
        policy_kwargs={"net_arch": [width, width]},
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    _, callback = model._setup_learn(size)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, size)
    return model


def seconds(model: Any, parameters: dict[str, torch.Tensor]) -> float:
    """One update from the given parameters."""
    model.policy.load_state_dict(parameters)
    start = time.perf_counter()
    model.train()
    return time.perf_counter() - start


def measure(case: tuple[str, str, int, int], rounds: int) -> dict[str, Any]:
    """Medians and spread over the rounds, after one to warm up."""
    ours, theirs = prepared(TRPO, case), prepared(sb3_contrib.TRPO, case)
    parameters = {k: v.clone() for k, v in theirs.policy.state_dict().items()}
    pairs = [(seconds(ours, parameters), seconds(theirs, parameters)) for _ in range(rounds + 1)]
    ratios = [their / our for our, their in pairs[1:]]  # the first pair warms up
    name, policy, size, width = case
    return {
        "case": name,
        "policy": policy,
        "rollout": size,
        "width": width,
        "ours_ms": 1e3 * statistics.median(our for our, _ in pairs[1:]),
        "sb3_contrib_ms": 1e3 * statistics.median(their for _, their in pairs[1:]),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def main() -> None:
    """Measure all cases, print a table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| case | rollout | width | ours ms | sb3-contrib ms | ratio | min - max |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for case in CASES:
        row = measure(case, arguments.rounds)
        rows.append(row)
        print(
            f"| {row['case']} | {row['rollout']} | {row['width']} | {row['ours_ms']:.0f} "
            f"| {row['sb3_contrib_ms']:.0f} | {row['ratio']:.2f} "
            f"| {row['ratio_min']:.2f} - {row['ratio_max']:.2f} |",
            flush=True,
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "update_speed.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
