"""Time of one TRPO update: ours and sb3-contrib's.

Both algorithms get the same parameters and the same rollout, and update in turn. A pair's ratio is
their time divided by ours: above one, ours is faster. Run it with

    python benchmarks/update_speed.py [--sweep | --device D] [--rounds N] [-o FOLDER]

Without options it measures usual sizes and writes ``results/update_speed.md`` and ``.json``.
``--sweep`` measures over rollout sizes and widths, fits the growth of the time, and writes
``update_sweep.md``, ``.json`` and ``.png``. ``--device`` measures large networks on a device and
writes ``update_gpu.md`` and ``.json`` (``update_cpu`` for the CPU).
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation
from harness.algorithms import SIDES, Noise, algorithm, silence
from harness.report import (
    RESULTS,
    machine,
    markdown_table,
    spread,
    with_spread,
    write_results,
)
from stable_baselines3.common.vec_env import DummyVecEnv

ENVS = 64
"""Environments that fill the rollout: with many, a large rollout takes a second."""
PACKAGES = ("torch", "stable-baselines3", "sb3-contrib")


@dataclass(frozen=True)
class Case:
    """Spaces, rollout and network. Two hidden layers of ``width``, for a CNN after its features."""

    task: str
    rollout: int
    width: int


BODY, POLE, GAME = "box 17 -> 6", "box 4 -> discrete 2", "image 84x84x4 -> discrete 6"
KEYS, OTHER = "dict of box 17 -> 6", "box 17 -> 6, GELU"
SPACES: dict[str, tuple[spaces.Box, spaces.Space[Any]]] = {
    BODY: (spaces.Box(-1, 1, (17,)), spaces.Box(-1, 1, (6,))),
    KEYS: (spaces.Box(-1, 1, (17,)), spaces.Box(-1, 1, (6,))),
    OTHER: (spaces.Box(-1, 1, (17,)), spaces.Box(-1, 1, (6,))),
    POLE: (spaces.Box(-1, 1, (4,)), spaces.Discrete(2)),
    GAME: (spaces.Box(0, 255, (84, 84, 4), np.uint8), spaces.Discrete(6)),
}
POLICIES = {GAME: "CnnPolicy", KEYS: "MultiInputPolicy"}
"""``MlpPolicy`` for the other tasks."""
CASES = [
    Case(BODY, 1024, 64),
    Case(BODY, 2048, 64),
    Case(BODY, 2048, 256),
    Case(BODY, 16384, 64),
    Case(POLE, 1024, 64),
    Case(OTHER, 2048, 64),
    Case(KEYS, 2048, 64),
    Case(GAME, 128, 64),
]
SWEEP = {
    "rollout": [Case(BODY, 1024 * 2**power, 64) for power in range(7)],
    "parameters": [Case(BODY, 2048, 32 * 2**power) for power in range(5)],
}
LARGE = [
    Case(BODY, 2048, 512),
    Case(BODY, 16384, 512),
    Case(BODY, 16384, 2048),
    Case(GAME, 512, 64),
    Case(GAME, 2048, 512),
]


def environment(task: str) -> gymnasium.Env[Any, Any]:
    """An environment of random observations that costs nothing."""
    noise = Noise(*SPACES[task])
    if task != KEYS:
        return noise
    space = spaces.Dict({"state": noise.observation_space})
    return TransformObservation(noise, lambda observation: {"state": observation}, space)


def prepared(side: str, case: Case, device: torch.device) -> Any:
    """A model with a full rollout buffer; the rollout is the same for both sides."""
    model = algorithm(side)(
        POLICIES.get(case.task, "MlpPolicy"),
        DummyVecEnv([lambda: environment(case.task)] * ENVS),
        n_steps=case.rollout // ENVS,
        batch_size=128,
        cg_max_steps=15,
        n_critic_updates=5,
        seed=0,
        device=device,
        policy_kwargs={
            "net_arch": [case.width, case.width],
            "activation_fn": torch.nn.GELU if case.task == OTHER else torch.nn.Tanh,
        },
    )
    silence(model)
    _, callback = model._setup_learn(case.rollout)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
    return model


def milliseconds(model: Any, parameters: dict[str, torch.Tensor]) -> float:
    """Time of one update from the given parameters."""
    model.policy.load_state_dict(parameters)
    wait(model.device)
    start = time.perf_counter()
    model.train()
    wait(model.device)
    return 1e3 * (time.perf_counter() - start)


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(case: Case, rounds: int, device: torch.device) -> dict[str, Any]:
    """Medians and spread over the rounds, after one round to warm up."""
    ours, theirs = (prepared(side, case, device) for side in SIDES)
    parameters = {k: v.clone() for k, v in theirs.policy.state_dict().items()}
    pairs = [
        (milliseconds(ours, parameters), milliseconds(theirs, parameters))
        for _ in range(rounds + 1)
    ][1:]
    return {
        **asdict(case),
        "parameters": sum(each.numel() for each in theirs.policy.parameters()),
        "ours_ms": spread(our for our, _ in pairs),
        "sb3_contrib_ms": spread(their for _, their in pairs),
        "ratio": spread(their / our for our, their in pairs),
    }


def measure_all(cases: Iterable[Case], rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """A row for each case; each is named on stdout when it is done."""
    rows = []
    for case in cases:
        rows.append(measure(case, rounds, device))
        print("{task}, {rollout}, {width}".format(**rows[-1]), end="; ", flush=True)
    print()
    return rows


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    header = "case|rollout|width|parameters|ours ms|sb3-contrib ms|ratio"
    return markdown_table(
        header.split("|"),
        [
            [
                row["task"],
                f"{row['rollout']:,}",
                str(row["width"]),
                f"{row['parameters']:,}",
                f"{row['ours_ms']['median']:.1f}",
                f"{row['sb3_contrib_ms']['median']:.1f}",
                with_spread(row["ratio"]),
            ]
            for row in rows
        ],
    )


def exponent(rows: list[dict[str, Any]], size: str, side: str) -> float:
    """The exponent ``b`` of a least-squares fit ``time = a * size**b``. One is linear growth."""
    times = [row[f"{side}_ms"]["median"] for row in rows]
    return float(np.polyfit(np.log([row[size] for row in rows]), np.log(times), 1)[0])


def growth(swept: dict[str, list[dict[str, Any]]]) -> str:
    """The exponents as text. The number of parameters is about the width squared."""
    return "".join(
        f"Exponent of the time over {size}: "
        + ", ".join(
            f"{exponent(rows, size, side):.2f} ({side.replace('_', '-')})" for side in SIDES
        )
        + ".\n"
        for size, rows in swept.items()
    )


def plot(swept: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Time over both sizes, with a line of slope one through our largest case."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    labels = {
        "rollout": "rollout, steps (two layers of 64)",
        "parameters": "parameters of actor and critic (width 32 to 512, 2,048 steps)",
    }
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, (size, rows) in zip(panels, swept.items(), strict=True):
        x = np.array([row[size] for row in rows])
        for side in SIDES:
            y = [row[f"{side}_ms"]["median"] for row in rows]
            slope = exponent(rows, size, side)
            axes.plot(x, y, marker="o", label=f"{side.replace('_', '-')}, exponent {slope:.2f}")
        largest = rows[-1]["ours_ms"]["median"]
        axes.plot(x, largest * x / x[-1], "--", color="grey", label="slope one")
        axes.set(xscale="log", yscale="log", xlabel=labels[size], ylabel="time of an update, ms")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def sweep(rounds: int, output: Path) -> None:
    """Measure over rollout size and width; write table, values and plot."""
    cpu = torch.device("cpu")
    swept = {size: measure_all(cases, rounds, cpu) for size, cases in SWEEP.items()}
    text = "\n".join([heading(rounds, cpu), *map(as_table, swept.values()), growth(swept)])
    exponents = {
        size: {side: exponent(rows, size, side) for side in SIDES} for size, rows in swept.items()
    }
    values = {"machine": machine(*PACKAGES), "rounds": rounds, "exponents": exponents, **swept}
    write_results("update_sweep", values, text, output)
    plot(swept, output / "update_sweep.png")


def compare(name: str, cases: list[Case], rounds: int, device: torch.device, output: Path) -> None:
    """Measure the cases and write their table."""
    rows = measure_all(cases, rounds, device)
    text = f"{heading(rounds, device)}\n{as_table(rows)}"
    values = {"device": device_name(device), "rounds": rounds, "cases": rows}
    write_results(name, {"machine": machine(*PACKAGES), **values}, text, output)


def device_name(device: torch.device) -> str:
    """The GPU's name, or how the CPU was used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "CPU, one torch thread (ours trains the critic in a second thread)"


def heading(rounds: int, device: torch.device) -> str:
    """Rounds, device and machine."""
    return (
        f"Medians of {rounds} pairs (minimum - maximum) on {device_name(device)}: "
        f"{machine(*PACKAGES)}.\n"
    )


def main() -> None:
    """Run one of the three measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--sweep", action="store_true", help="over rollout sizes and widths")
    choice.add_argument("--device", type=torch.device, help="large networks, on this device")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rounds, device, output = arguments.rounds, arguments.device, arguments.output
    if arguments.sweep:
        sweep(rounds, output)
    elif device is not None:
        name = "update_gpu" if device.type == "cuda" else "update_cpu"
        compare(name, LARGE, rounds, device, output)
    else:
        compare("update_speed", CASES, rounds, torch.device("cpu"), output)


if __name__ == "__main__":
    main()
