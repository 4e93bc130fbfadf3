"""Training, ours against sb3-contrib's and the bare environment loop, in paired rounds.

Each round trains both for the same steps with the same environment, seed and hyperparameters,
and steps the bare environment with random actions; ratios are taken within a round. Run it with

    python benchmarks/train_speed.py [--case NAME]... [--rounds N] [-o FOLDER]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import sb3_contrib
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from trpo_deploy import TRPO
from trpo_deploy.train.sync_vec_env import SyncVecEnv

MUJOCO = {"n_steps": 1024, "batch_size": 128, "cg_max_steps": 25, "n_critic_updates": 20}
CARTPOLE = {
    "n_steps": 512,
    "batch_size": 512,
    "cg_damping": 1e-3,
    "gae_lambda": 0.98,
    "n_critic_updates": 20,
}


@dataclass(frozen=True)
class Case:
    """A task with the hyperparameters of RL Zoo."""

    env_id: str
    hyperparameters: dict[str, Any]
    normalize: bool
    n_envs: int = 2
    updates: int = 6


CASES = {
    "HalfCheetah-v5": Case("HalfCheetah-v5", {**MUJOCO, "target_kl": 0.04}, True),
    "Hopper-v5": Case("Hopper-v5", MUJOCO, True),
    "Ant-v5": Case("Ant-v5", MUJOCO, True),
    "CartPole-v1": Case("CartPole-v1", CARTPOLE, False, updates=10),
}


class Timed:
    """A callable that adds up the seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it."""
        start = time.perf_counter()
        try:
            return self.function(*arguments, **keywords)
        finally:
            self.seconds += time.perf_counter() - start


def train(algorithm: type[Any], vec_env: type[DummyVecEnv], case: Case) -> dict[str, float]:
    """Steps a second of a run, and what of its seconds is rollout and update."""
    env: VecEnv = make_vec_env(
        lambda: gymnasium.make(case.env_id), case.n_envs, seed=0, vec_env_cls=vec_env
    )
    if case.normalize:
        env = VecNormalize(env)
    model = algorithm("MlpPolicy", env, seed=0, device="cpu", **case.hyperparameters)
    model.set_logger(Logger(folder=None, output_formats=[]))
    model.collect_rollouts, model.train = Timed(model.collect_rollouts), Timed(model.train)
    start = time.perf_counter()
    model.learn(case.updates * case.n_envs * case.hyperparameters["n_steps"])
    elapsed = time.perf_counter() - start
    env.close()
    return {
        "steps_per_second": model.num_timesteps / elapsed,
        "rollout_seconds": model.collect_rollouts.seconds,
        "update_seconds": model.train.seconds,
    }


def bare(case: Case) -> float:
    """Steps a second of the environment alone, with random actions."""
    with gymnasium.make(case.env_id) as env:
        env.action_space.seed(0)
        actions = [env.action_space.sample() for _ in range(256)]
        env.reset(seed=0)
        steps = 3000
        start = time.perf_counter()
        for i in range(steps):
            _, _, terminated, truncated, _ = env.step(actions[i % 256])
            if terminated or truncated:
                env.reset()
        return steps / (time.perf_counter() - start)


def measure(name: str, rounds: int) -> dict[str, Any]:
    """Medians and spread over the rounds, after one to warm up."""
    case = CASES[name]
    results = [
        (train(TRPO, SyncVecEnv, case), train(sb3_contrib.TRPO, DummyVecEnv, case), bare(case))
        for _ in range(rounds + 1)
    ][1:]
    speed = "steps_per_second"
    against = [ours[speed] / theirs[speed] for ours, theirs, _ in results]
    limit = [ours[speed] / alone for ours, _, alone in results]
    return {
        "case": name,
        "steps": case.updates * case.n_envs * case.hyperparameters["n_steps"],
        "rounds": rounds,
        "ours": {key: statistics.median(o[key] for o, _, _ in results) for key in results[0][0]},
        "sb3_contrib": {
            key: statistics.median(t[key] for _, t, _ in results) for key in results[0][1]
        },
        "bare_steps_per_second": statistics.median(alone for _, _, alone in results),
        "ratio_to_sb3_contrib": [statistics.median(against), min(against), max(against)],
        "ratio_to_bare": [statistics.median(limit), min(limit), max(limit)],
    }


def main() -> None:
    """Measure the cases asked for, print a table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=CASES, help="repeatable; default all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(
        "| case | ours steps/s (rollout s, update s) | sb3-contrib | bare "
        "| ratio to sb3-contrib | ratio to bare |\n|---|---|---|---|---|---|"
    )
    rows = []
    for name in arguments.case or CASES:
        row = measure(name, arguments.rounds)
        rows.append(row)
        cells = [
            f"{side['steps_per_second']:,.0f} ({side['rollout_seconds']:.2f}, "
            f"{side['update_seconds']:.2f})"
            for side in (row["ours"], row["sb3_contrib"])
        ]
        ratios = [
            "{:.2f} ({:.2f} - {:.2f})".format(*row[key])
            for key in ("ratio_to_sb3_contrib", "ratio_to_bare")
        ]
        print(
            f"| {name} | {cells[0]} | {cells[1]} | {row['bare_steps_per_second']:,.0f} "
            f"| {ratios[0]} | {ratios[1]} |",
            flush=True,
        )
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "train_speed.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
