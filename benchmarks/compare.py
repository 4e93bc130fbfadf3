"""Compare the speed of two checkouts: training, single actions, ``/predict``.

Both run the same work in alternation, so that other work on the machine slows both. The ratio of a
round is the new checkout's speed divided by the base's: below one, the new one is slower. Run it
with

    python benchmarks/compare.py BASE [NEW] [--only NAME]... [--rounds N]

where BASE and NEW are folders with a checkout (NEW is this one by default), for example from ``git
worktree add ../base main``. Both run with the packages of this Python. It exits with 1 if a median
ratio is below 0.97. Compare a checkout with itself to see the noise of the machine. ``predict``
needs ``wrk``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness.http_load import json_request, require_wrk, wrk
from harness.http_servers import ROOT, trpo_deploy_serve
from harness.report import machine, markdown_table, spread, with_spread

TOLERANCE = 0.03
"""A measurement passes if its median ratio is at least one minus this."""
MODEL = "models/Hopper-v5/policy.onnx"
"""Of the base checkout: new code reads old files."""
ENV_ID = "HalfCheetah-v5"
UPDATES = 40
ACTION_TURNS, LOAD_TURNS = 10, 4
"""Alternations within a round."""
LOAD_S = 2
"""Seconds of a turn under load."""
CONNECTIONS = 8

Speeds = Mapping[str, float]
"""Speed of one checkout in one round (higher is better), by measurement."""


@dataclass(frozen=True)
class Pair:
    """The speeds of one round."""

    base: Speeds
    new: Speeds


def training(checkouts: list[Path], order: list[int]) -> Pair:
    """Steps/s of ``trpo-deploy train`` with its preset, without start and evaluation."""
    speeds: dict[int, Speeds] = {}
    for side in order:
        with tempfile.TemporaryDirectory(prefix="trpo-deploy-compare-") as folder:
            run = Path(folder) / "run"
            command = [sys.executable, "-m", "trpo_deploy", "train", ENV_ID, "-o", str(run)]
            command += ["-n", str(UPDATES * 2048), "--eval-episodes", "1"]
            command += ["--eval-every", "1000000", "--no-export", "--no-progress"]
            run_in(checkouts[side], command, folder)
            speeds[side] = {f"training {ENV_ID}, steps/s": training_speed(run / "progress.csv")}
    return Pair(speeds[0], speeds[1])


def training_speed(log: Path) -> float:
    """Steps/s of the median update with its rollout; the first ones warm up."""
    with log.open(newline="") as file:
        speeds = [(row["time/rollout_fps"], row["time/update_fps"]) for row in csv.DictReader(file)]
    seconds = [1 / float(rollout) + 1 / float(update) for rollout, update in speeds[3:] if rollout]
    return 1 / statistics.median(seconds)


def actions(checkouts: list[Path], order: list[int]) -> Pair:
    """Actions/s of ``OnnxPolicy`` and ``Session``, one observation at a time."""
    policy = str((checkouts[0] / MODEL).resolve())
    times: dict[int, list[dict[str, float]]] = {0: [], 1: []}
    with ExitStack() as stack:
        probes = [stack.enter_context(action_probe(each, policy)) for each in checkouts]
        for turn in range(ACTION_TURNS + 1):
            for side in order if turn % 2 else reversed(order):
                times[side].append(probes[side]())
    speeds = [
        {
            f"{name}, actions/s": 1e6 / statistics.median(turn[name] for turn in turns[1:])
            for name in turns[0]
        }
        for turns in times.values()
    ]
    return Pair(*speeds)


@contextmanager
def action_probe(checkout: Path, policy: str) -> Iterator[Callable[[], dict[str, float]]]:
    """A function that measures once in a process of the checkout."""
    command = [sys.executable, "-m", "harness.action_probe", policy]
    with subprocess.Popen(
        command,
        env=environment(checkout),
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def measure() -> dict[str, float]:
            requests.write("\n")
            requests.flush()
            times: dict[str, float] = json.loads(answers.readline())
            return times

        yield measure


def predict(checkouts: list[Path], order: list[int]) -> Pair:
    """Rate of ``POST /predict`` over 8 connections, by time and by the server's processor time."""
    policy = (checkouts[0] / MODEL).resolve()
    observation = np.random.default_rng(0).normal(size=11).round(6).tolist()
    request = json_request("/predict", observation)
    speeds: dict[int, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-compare-") as name, ExitStack() as stack:
        servers = [
            stack.enter_context(
                trpo_deploy_serve(policy, Path(name) / str(side), checkout=checkout)
            )
            for side, checkout in enumerate(checkouts)
        ]
        for server in servers:
            wrk(server, request, CONNECTIONS, 1)  # warm up
        for turn in range(LOAD_TURNS):
            for side in order if turn % 2 else reversed(order):
                load = wrk(servers[side], request, CONNECTIONS, LOAD_S)
                found = speeds.setdefault(side, {})
                found.setdefault("`/predict`, requests/s", []).append(load.rate)
                found.setdefault("`/predict`, requests/CPU s", []).append(1e6 / load.cpu)
    medians = {
        side: {key: statistics.median(values) for key, values in found.items()}
        for side, found in speeds.items()
    }
    return Pair(medians[0], medians[1])


MEASUREMENTS: dict[str, Callable[[list[Path], list[int]], Pair]] = {
    "training": training,
    "actions": actions,
    "predict": predict,
}


def environment(checkout: Path) -> dict[str, str]:
    """The environment variables that make a Python process import from the checkout."""
    return {**os.environ, "PYTHONPATH": str(checkout)}


def run_in(checkout: Path, command: list[str], folder: str | Path) -> str:
    """Run a command with the code of a checkout; return its output."""
    done = subprocess.run(
        command, env=environment(checkout), cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{checkout}: {' '.join(command)} failed: {done.stderr}")
    return done.stdout


def check_checkouts(checkouts: list[Path]) -> None:
    """Check that each folder is a checkout, and that both or none have the compiled module.

    Raises:
        SystemExit: they cannot be compared.
    """
    code = "import trpo_deploy; print(trpo_deploy.__file__)"
    for checkout in checkouts:
        imported = run_in(checkout, [sys.executable, "-c", code], tempfile.gettempdir())
        if not Path(imported.strip()).is_relative_to(checkout):
            raise SystemExit(f"{checkout} has no package trpo_deploy; give a checkout's folder")
    compiled = [
        any(path.suffix in (".so", ".pyd") for path in (checkout / "trpo_deploy").rglob("*"))
        for checkout in checkouts
    ]
    if compiled[0] != compiled[1]:
        lacking = checkouts[compiled.index(False)]
        raise SystemExit(
            f"{lacking} lacks the compiled module, which the other has; build it there (needs "
            "cython): python setup.py build_ext --inplace"
        )


def measure(names: list[str], checkouts: list[Path], rounds: int) -> list[Pair]:
    """All rounds of all measurements; the checkout that begins alternates."""
    pairs = []
    for name in names:
        for index in range(rounds):
            order = [0, 1] if index % 2 == 0 else [1, 0]
            pair = MEASUREMENTS[name](checkouts, order)
            pairs.append(pair)
            ratios = ", ".join(f"{pair.new[key] / pair.base[key]:.2f}" for key in pair.base)
            print(f"{name}, round {index + 1} of {rounds}: {ratios}", file=sys.stderr, flush=True)
    return pairs


def report(pairs: list[Pair]) -> tuple[str, bool]:
    """The table, and whether every measurement passes."""
    rows, all_pass = [], True
    for name in dict.fromkeys(name for pair in pairs for name in pair.base):
        found = [pair for pair in pairs if name in pair.base]
        base, new = (
            statistics.median(getattr(pair, side)[name] for pair in found)
            for side in ("base", "new")
        )
        ratio = spread(pair.new[name] / pair.base[name] for pair in found)
        passes = ratio["median"] >= 1 - TOLERANCE
        all_pass = all_pass and passes
        verdict = "yes" if passes else "**no**"
        rows.append([name, f"{base:,.0f}", f"{new:,.0f}", with_spread(ratio), verdict])
    header = ["measurement", "base", "new", "new ÷ base", f"within {TOLERANCE:.0%}"]
    return markdown_table(header, rows), all_pass


def main() -> None:
    """Measure and print; exit with 1 if the new checkout is slower."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", type=Path, help="folder of the checkout to compare with")
    parser.add_argument("new", type=Path, nargs="?", default=ROOT, help="default: this checkout")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="repeatable")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    names = options.only or list(MEASUREMENTS)
    checkouts = [options.base.resolve(), options.new.resolve()]
    if "predict" in names:
        require_wrk()
    check_checkouts(checkouts)
    text, passes = report(measure(names, checkouts, options.rounds))
    packages = machine("torch", "stable-baselines3", "onnxruntime", "bentoml")
    print(f"Medians of {options.rounds} rounds (minimum - maximum): {packages}.\n\n{text}")
    raise SystemExit(0 if passes else 1)


if __name__ == "__main__":
    main()
