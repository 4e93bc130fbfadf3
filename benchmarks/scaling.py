"""Training speed of one and of two ranks, over the time that an environment takes for a step.

Each round trains the same run once with each number of ranks, in turn, as ``torchrun -m trpo_deploy
train`` does: two environments, rollouts of 2,048 steps, a policy of 64x64. An environment's step
spends processor time, so two of them need two cores; a waiting one would show a speed that the
machine does not have. The first update is left out. Run it on a quiet machine with two free cores:

    python benchmarks/scaling.py [--rounds N] [-o FOLDER]

It writes steps/s, their ratio, and the messages and bytes of an update as
``results/scaling.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from harness.algorithms import Noise
from harness.report import RESULTS, machine, markdown_table, spread, with_spread, write_results
from stable_baselines3.common.callbacks import BaseCallback

from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train import follow, joined, load_config, train
from trpo_deploy.train.distributed.world import world

ROLLOUT, ENVS = 2048, 2
RANKS = (1, 2)
EPISODE = 100
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")


@dataclass(frozen=True)
class Case:
    """An environment and whether the run normalises."""

    step_us: int
    normalize: bool
    updates: int
    """Updates that are measured."""


CASES = [
    Case(step_us, normalize, updates)
    for step_us, updates in ((50, 10), (1_000, 4), (10_000, 1))
    for normalize in (False, True)
]


class BusyEnv(Noise):
    """An environment whose step takes processor time."""

    def __init__(self, step_us: int) -> None:
        super().__init__(spaces.Box(-1, 1, (17,)), spaces.Box(-1, 1, (6,)))
        self._seconds = step_us / 1e6
        self._steps = 0

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        """Spend the time, then return the next observation."""
        end = time.thread_time() + self._seconds
        while time.thread_time() < end:
            pass
        observation, reward, *_ = super().step(action)
        self._steps += 1
        return observation, reward, False, self._steps % EPISODE == 0, {}


MARKS: list[tuple[float, int, int]] = []
"""What :class:`Clock` recorded; the run makes its own instance of it."""


class Clock(BaseCallback):
    """Records time, messages and bytes at the start of each rollout."""

    def _on_rollout_start(self) -> None:
        ranks = world()
        MARKS.append((time.perf_counter(), ranks.messages, ranks.message_bytes))

    def _on_step(self) -> bool:
        return True


def measure_as_rank(case: Case) -> None:
    """Train a case as one rank; rank 0 prints its figures as JSON."""
    gymnasium.register("Busy-v0", BusyEnv, disable_env_checker=True)
    config = load_config(
        "Busy-v0",
        env_args=[f"step_us={case.step_us}"],
        n_envs=ENVS,
        n_timesteps=(case.updates + 2) * ROLLOUT,
        callback=f"{__name__}:{Clock.__name__}",
        n_steps=ROLLOUT // ENVS,
        batch_size=128,
        n_critic_updates=10,
        eval_every=10**9,
        eval_episodes=1,
        checkpoint_every=10**9,
        normalize=case.normalize,
    )
    with joined() as ranks, tempfile.TemporaryDirectory() as folder:
        if ranks.rank > 0:
            follow(config)
            return
        train(config, ModelDir(Path(folder)))
    # The last rollout has no start of another one after it.
    (start, messages, sent), (end, *after) = MARKS[1], MARKS[case.updates + 1]
    figures = {
        "steps_per_s": case.updates * ROLLOUT / (end - start),
        "messages": (after[0] - messages) / case.updates,
        "bytes": (after[1] - sent) / case.updates,
    }
    print(json.dumps(figures))


def measure(case: Case, ranks: int) -> dict[str, float]:
    """Figures of a case with a number of ranks."""
    done = subprocess.run(
        [*TORCHRUN, f"--nproc-per-node={ranks}", __file__, "--rank-of", str(CASES.index(case))],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure all cases and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    parser.add_argument("--rank-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of is not None:
        measure_as_rank(CASES[options.rank_of])
        return
    measured = []
    for case in CASES:
        rounds = [{ranks: measure(case, ranks) for ranks in RANKS} for _ in range(options.rounds)]
        measured.append({"case": asdict(case), "rounds": rounds})
    write_results("scaling", measured, text_of(measured), options.output)


def text_of(measured: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    rows = []
    for each in measured:
        case, rounds = each["case"], each["rounds"]
        speeds = {n: [figures[n]["steps_per_s"] for figures in rounds] for n in RANKS}
        ratios = [two / one for one, two in zip(speeds[1], speeds[2], strict=True)]
        rows.append(
            [
                f"{case['step_us']:,} µs",
                "yes" if case["normalize"] else "no",
                *(f"{spread(speeds[n])['median']:,.0f}" for n in RANKS),
                with_spread(spread(ratios)),
                f"{rounds[-1][2]['messages']:,.0f}",
                f"{rounds[-1][2]['bytes'] / 1e3:,.0f} kB",
            ]
        )
    header = ["a step takes", "normalises", "1 rank, steps/s", "2 ranks, steps/s", "ratio"]
    table = markdown_table([*header, "messages an update", "bytes an update"], rows)
    return (
        "# Training with one and two ranks\n\n"
        f"{machine('torch', 'stable-baselines3')}. {ENVS} environments, rollouts of {ROLLOUT:,} "
        "steps, 64x64, ten passes of the critic. Steps/s are of rollouts and updates together.\n\n"
        f"{table}\n"
        "Messages and bytes are those of rank 0. Median (minimum - maximum) over the rounds.\n"
    )


if __name__ == "__main__":
    main()
