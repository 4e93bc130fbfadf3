"""What one action costs outside of Python: time, size, instructions and stack of exported code.

    python benchmarks/targets.py [--rounds N]

Each shipped policy, and a random one that sees images, is exported to C and to JavaScript. On this
machine, the engines take turns in each round, so that other work on the machine slows all of them.
QEMU counts the instructions of a Cortex-M3 and a Cortex-M4F; it does not tell their cycles. It
needs gcc, clang, gcc-arm-none-eabi, qemu-system-arm, node and the extras ``train`` and ``export``,
and writes ``results/targets.md``, ``.json`` and ``.png``.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from gymnasium import spaces
from harness.report import (
    RESULTS,
    TRUST,
    machine,
    markdown_table,
    median_ratio,
    processor,
    spread,
    write_results,
)

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # the tests are not installed

from tests.export.targets.c.boards import CORTEX_M3, CORTEX_M4F, Board  # noqa: E402
from tests.export.targets.c.folders import compiler, run  # noqa: E402
from tests.export.targets.programs import make  # noqa: E402
from trpo_deploy.export import TargetOptions, export_file  # noqa: E402
from trpo_deploy.export.targets.web.engine import Node  # noqa: E402
from trpo_deploy.runtime import OnnxPolicy  # noqa: E402

NAME = "policy"
MODELS = ("HalfCheetah-v5", "Hopper-v5", "Ant-v5")
IMAGES = "images, 4x36x36"
HARNESS = Path(__file__).parent / "harness"
SECONDS = 0.2
"""Time of one measurement on this machine, roughly."""
COMPILERS = {
    "gcc -O2": ("gcc", "-O2"),
    "clang -O2": ("clang", "-O2"),
    "gcc -O3 -march=native -ffast-math": ("gcc", "-O3", "-march=native", "-ffast-math"),
}
ORT = "onnxruntime"
JAVASCRIPT = "JavaScript"
TITLES = {ORT: ORT, JAVASCRIPT: JAVASCRIPT} | {each: f"C, {each}" for each in COMPILERS}
"""Engines of this machine, as the table and the plot name them."""
SIZES = {
    "flash": "flash, kB",
    "stack": "stack, kB",
    "javascript": "JavaScript module, kB",
    "onnx": "ONNX file, kB",
}
"""Sizes in bytes, and their columns of the table."""
BOARDS = {"Cortex-M3": CORTEX_M3, "Cortex-M4F": CORTEX_M4F}

Measure = Callable[[], float]
"""Returns the microseconds of one action."""


@dataclass(frozen=True)
class Code:
    """A policy as a folder of C files."""

    folder: Path

    @property
    def has_state(self) -> bool:
        """Whether it keeps earlier frames."""
        return f"{NAME}_reset" in (self.folder / f"{NAME}.h").read_text()

    def options(self, calls: int) -> list[str]:
        """Options that compile the timing program for this policy."""
        state = [f"-DSTATE={NAME}_state", f"-DRESET={NAME}_reset"] if self.has_state else []
        names = [f'-DTEST="{NAME}_test.c"', f"-DACT={NAME}_act"]
        return [f"-I{self.folder}", *names, *state, f"-DCALLS={calls}"]

    @property
    def sources(self) -> list[Path]:
        """The timing program and the policy."""
        return [HARNESS / "time_act.c", self.folder / f"{NAME}.c"]


def host(code: Code, label: str, calls: int) -> Measure:
    """The code compiled for this machine."""
    command, *options = COMPILERS[label]
    program = code.folder / f"time {label}"
    files = [*code.sources, "-o", program, "-lm"]
    run([compiler(command), "-std=gnu99", *options, *code.options(calls), *files])
    return lambda: float(run([program])) / 1e3


def javascript(folder: Path, calls: int) -> Measure:
    """The module of a folder in Node."""
    command = [Node.find().command, HARNESS / "time_act.mjs", folder, NAME, calls]
    return lambda: float(run(command)) / 1e3


def onnxruntime(onnx: Path, calls: int) -> Measure:
    """Bare onnxruntime with one thread, on one row."""
    policy = OnnxPolicy(onnx)
    rng = np.random.default_rng(0)
    row = policy.spec.validate(policy.spec.sample_observation(rng))[0]
    feeds: dict[str, Any] = {each.name: row[each.key] for each in policy.spec.inputs[: len(row)]}
    feeds |= {state.input.name: state.zeros(1) for state in policy.spec.states}
    session = policy._session

    def measure() -> float:
        for _ in range(10):
            session.run(None, feeds)
        start = time.perf_counter()
        for _ in range(calls):
            session.run(None, feeds)
        return (time.perf_counter() - start) / calls * 1e6

    return measure


def instructions(code: Code, board: Board) -> float:
    """Instructions of one action on a board; QEMU lets each take one nanosecond."""
    image = code.folder / f"{board.machine}.elf"
    options = ("-O2", "-std=gnu99", f"-DCLOCK={board.clock}", *code.options(calls=4))
    board.build(code.sources, image, *options)
    return float(board.run(image, "-icount", "shift=0"))


def cost(code: Code) -> dict[str, int]:
    """Flash and stack in bytes, as the header says."""
    text = (code.folder / f"{NAME}.h").read_text()
    found = re.search(r"Flash (\d+) bytes, stack at most (\d+) bytes.*\(Cortex-M4", text)
    assert found, "needs gcc-arm-none-eabi"
    return {"flash": int(found[1]), "stack": int(found[2])}


def policies(folder: Path) -> dict[str, Path]:
    """The ONNX files to measure."""
    grey = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    images = make(folder / "images", observation_space=grey, frames=4, policy="CnnPolicy")
    return {name: ROOT / "models" / name / "policy.onnx" for name in MODELS} | {IMAGES: images}


def measure_policy(onnx: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """All figures of one policy."""
    for target in ("c", "web"):
        export_file(onnx, TargetOptions(target, folder / target, NAME), verify=False)
    code, web = Code(folder / "c"), folder / "web"
    first = onnxruntime(onnx, 20)()
    calls = max(20, int(SECONDS * 1e6 / first))
    engines = {label: host(code, label, calls) for label in COMPILERS}
    engines[JAVASCRIPT] = javascript(web, calls)
    engines[ORT] = onnxruntime(onnx, calls)
    times: dict[str, list[float]] = {label: [] for label in engines}
    for _ in range(rounds):
        for label, measure in engines.items():
            times[label].append(measure())
    return {
        "microseconds": times,
        "instructions": {name: instructions(code, board) for name, board in BOARDS.items()},
        **cost(code),
        "javascript": (web / f"{NAME}.js").stat().st_size,
        "onnx": onnx.stat().st_size,
    }


def table(measured: Mapping[str, Any]) -> str:
    """A row for each policy."""
    header = [
        "policy",
        *(f"{title}, µs" for title in TITLES.values()),
        f"{ORT} ÷ C at gcc -O2",
        *(f"{name} instructions" for name in BOARDS),
        *SIZES.values(),
    ]
    rows = []
    for name, values in measured.items():
        times = values["microseconds"]
        ratio = median_ratio(times[ORT], times["gcc -O2"], float)
        rows.append(
            [
                name,
                *(f"{spread(times[label])['median']:.3g}" for label in TITLES),
                f"{ratio:.1f}",
                *(f"{values['instructions'][each] / 1e3:,.0f}k" for each in BOARDS),
                *(f"{values[each] / 1e3:,.1f}" for each in SIZES),
            ]
        )
    return markdown_table(header, rows)


def plot(measured: Mapping[str, Any], path: Path) -> None:
    """Time of an action by policy, a bar for each engine."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    width = 0.8 / len(TITLES)
    for index, (label, title) in enumerate(TITLES.items()):
        times = [spread(each["microseconds"][label])["median"] for each in measured.values()]
        place = np.arange(len(times)) + width * (index - (len(TITLES) - 1) / 2)
        axes.bar(place, times, 0.9 * width, label=title)
    axes.set_xticks(range(len(measured)), list(measured))
    axes.set_yscale("log")
    axes.set_ylabel("µs an action")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = policies(folder)
        measured = {
            name: measure_policy(onnx, folder / str(index), rounds)
            for index, (name, onnx) in enumerate(found.items())
        }
    versions = [run([compiler(name), "-dumpversion"]).strip() for name in ("gcc", "clang")]
    text = (
        "# One action in C and JavaScript\n\n"
        f"Median of {rounds} rounds on one core, JavaScript in Node. Flash and stack are for a "
        "Cortex-M4 at -O2, without the functions of `math.h`. QEMU counts the instructions, at "
        f"-O2; a Cortex-M3 has no floating-point unit. {TRUST}\n\n"
        f"{table(measured)}\n{processor()}, {machine('onnxruntime', 'numpy')}, "
        f"gcc {versions[0]}, clang {versions[1]}, node {Node.find().version}\n\n"
        "![plot](targets.png)\n"
    )
    write_results("targets", measured, text)
    plot(measured, RESULTS / "targets.png")


if __name__ == "__main__":
    main()
