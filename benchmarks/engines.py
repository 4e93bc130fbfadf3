"""Which engines, in which versions, run the exported files, and how equal their results are.

    python benchmarks/engines.py [--engine NAME ...]

Each engine is installed from PyPI into a virtual environment of its own, which is deleted at the
end. It gets the files of ``models/``, exported again, and small ones with Dict, MultiDiscrete,
MultiBinary, images, frame stacks and the guard, each in batches of 1 and 7. The last row of a
guarded file is NaN. The results are compared with onnxruntime's of the environment that runs this
script. It writes ``results/engines.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import numpy as np
import onnx
import onnxruntime
import torch
from gymnasium import spaces
from harness.report import machine, markdown_table, write_results
from onnx import numpy_helper
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from trpo_deploy.export import ExportOptions, export_model, export_policy
from trpo_deploy.files.runs import find_run

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).parent / "harness" / "engine_worker.py"
EQUAL = 1e-5
"""Largest error of an equal float: a few units in the last place of numbers up to 10."""
OLD_NUMPY = "numpy<2"
ENGINES: dict[str, tuple[str, ...]] = {
    "onnxruntime 1.15.1": ("onnxruntime", "onnxruntime==1.15.1", OLD_NUMPY),
    "onnxruntime 1.17.3": ("onnxruntime", "onnxruntime==1.17.3", OLD_NUMPY),
    "onnxruntime 1.32.0": ("onnxruntime", "onnxruntime==1.32.0"),
    "onnx 1.23.2, reference": ("onnx", "onnx==1.23.2"),
    "OpenVINO 2026.4.1, f32": ("openvino", "openvino==2026.4.1"),
    "OpenCV 4.6.0": ("opencv", "opencv-python-headless==4.6.0.66", OLD_NUMPY),
    "OpenCV 4.11.0": ("opencv", "opencv-python-headless==4.11.0.86", OLD_NUMPY),
    "OpenCV 5.0.0": ("opencv", "opencv-python-headless==5.0.0.93"),
}
"""Name in the table -> the worker's name for it, and what pip installs."""

BOX = spaces.Box(-1.0, 1.0, (6,))
GREY = spaces.Box(0, 255, (84, 84, 1), np.uint8)
PARTS = spaces.Dict(
    {"eye": spaces.Box(0, 255, (36, 40, 3), np.uint8), "gear": spaces.Discrete(4), "joints": BOX}
)


@dataclass(frozen=True)
class Small:
    """A small policy with random weights."""

    observations: spaces.Space[Any]
    actions: spaces.Space[Any]
    policy: str = "MlpPolicy"
    n_stack: int = 1
    normalize: bool = False
    options: ExportOptions | None = None


SMALL = {
    "Dict": Small(PARTS, BOX, "MultiInputPolicy"),
    "Discrete to Discrete": Small(spaces.Discrete(5), spaces.Discrete(3)),
    "MultiDiscrete": Small(spaces.MultiDiscrete([3, 4]), spaces.MultiDiscrete([3, 2, 2])),
    "MultiBinary": Small(spaces.MultiBinary(5), spaces.MultiBinary(3)),
    "CNN": Small(GREY, spaces.Discrete(6), "CnnPolicy"),
    "CNN with a stack of 4": Small(GREY, spaces.Discrete(6), "CnnPolicy", n_stack=4),
    "normalised stack of 3": Small(BOX, BOX, n_stack=3, normalize=True),
    "guarded Box": Small(BOX, BOX, options=ExportOptions(guard=True)),
    "guarded Discrete": Small(BOX, spaces.Discrete(3), options=ExportOptions(guard=True)),
    "guarded MultiBinary": Small(BOX, spaces.MultiBinary(3), options=ExportOptions(guard=True)),
    "all outputs": Small(BOX, BOX, options=ExportOptions(("value", "log_prob", "mean", "std"))),
}


class Still(gymnasium.Env[Any, Any]):
    """An environment that only has spaces; it is not played."""

    def __init__(self, small: Small) -> None:
        self.observation_space, self.action_space = small.observations, small.actions


def export_small(small: Small, folder: Path) -> None:
    """Export a small policy with golden vectors."""
    env: Any = DummyVecEnv([lambda: Still(small)])
    if small.n_stack > 1:
        env = VecFrameStack(env, small.n_stack)
    if small.normalize:
        env = VecNormalize(env)
    model = PPO(small.policy, env, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            scale = 0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    path = folder.with_suffix(".onnx")
    export_model(model, path, verify=False, golden=folder, options=small.options)


def prepare(folder: Path) -> list[Path]:
    """Write a folder for each file, with its inputs and onnxruntime's outputs."""
    cases = []
    for source in sorted((ROOT / "models").glob("*/policy.zip")):
        cases.append(folder / source.parent.name)
        export_policy(
            find_run(source.parent), cases[-1].with_suffix(".onnx"), verify=False, golden=cases[-1]
        )
    for name, small in SMALL.items():
        cases.append(folder / name)
        export_small(small, cases[-1])
    for case in cases:
        session = onnxruntime.InferenceSession(case / "model.onnx")
        names = [each.name for each in session.get_outputs()]
        np.save(case / "names.npy", np.array([name.encode() for name in names]))
        for index, data in enumerate(sorted(case.glob("test_data_set_*"))):
            inputs = read_inputs(data)
            if case.name.startswith("guarded"):
                inputs["obs"][-1, 0] = np.nan
            expected = dict(zip(names, session.run(names, inputs), strict=True))
            np.savez(case / f"inputs_{index}.npz", **inputs)
            np.savez(case / f"expected_{index}.npz", **expected)
    return cases


def read_inputs(folder: Path) -> dict[str, Any]:
    """The golden observations of one data set, by the input's name."""
    found = [onnx.load_tensor(path) for path in sorted(folder.glob("input_*.pb"))]
    return {each.name: numpy_helper.to_array(each).copy() for each in found}


@dataclass(frozen=True)
class Result:
    """What an engine did with one file."""

    loaded: bool
    equal: bool = False
    error: float = 0.0
    """Largest difference of a float output; 0 if only integers differ."""
    message: str = ""


def run_case(python: Path, engine: str, case: Path) -> Result:
    """Run one file in an engine, and compare."""
    for old in case.glob("outputs_*.npz"):
        old.unlink()
    done = subprocess.run(
        [python, WORKER, engine, case], capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Result(loaded=False, message=" ".join(lines)[-300:])
    return compare(case)


def compare(case: Path) -> Result:
    """Compare the outputs of all batches with the expected ones."""
    equal, worst = True, 0.0
    for path in sorted(case.glob("expected_*.npz")):
        with np.load(path) as expected, np.load(str(path).replace("expected", "outputs")) as found:
            for name in expected:
                if found[name].size != expected[name].size:
                    return Result(loaded=True, message=f"{name} has shape {found[name].shape}")
                values = found[name].reshape(expected[name].shape).astype(np.float64)
                error = float(np.abs(values - expected[name].astype(np.float64)).max(initial=0))
                is_float = expected[name].dtype.kind == "f"
                equal &= bool(error <= EQUAL) if is_float else error == 0
                worst = max(worst, error if is_float else 0.0)
    return Result(loaded=True, equal=equal, error=worst)


def run_engine(name: str, cases: list[Path], folder: Path) -> Iterator[tuple[str, Result]]:
    """Install an engine and run all files in it."""
    worker, *requirements = ENGINES[name]
    home = folder / "venv"
    venv.create(home, with_pip=True, clear=True)
    python = home / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
    subprocess.run([*install, "numpy", *requirements], check=True)
    for case in cases:
        yield case.name, run_case(python, worker, case)


def row_of(results: dict[str, Result]) -> list[str]:
    """An engine's row of the table, without its name."""
    loaded = [each for each in results.values() if each.loaded]
    equal = [case for case, each in results.items() if each.equal]
    others = [case for case in results if case not in equal]
    which = f"all but {', '.join(others)}" if others else "all"
    return [
        f"{len(loaded)} of {len(results)}",
        f"{len(equal)} of {len(results)}",
        f"{max((results[case].error for case in equal), default=0):.1e}",
        f"only {', '.join(equal)}" if len(equal) < len(others) else which,
    ]


def main() -> None:
    """Run the engines, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", action="append", choices=ENGINES)
    engines = parser.parse_args().engine or list(ENGINES)
    rows, values = [], {}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        cases = prepare(folder)
        for name in engines:
            results = dict(run_engine(name, cases, folder))
            print(name, results, file=sys.stderr)
            rows.append([name, *row_of(results)])
            values[name] = {case: vars(each) for case, each in results.items()}
    header = ["engine", "files loaded", "files equal", "worst error of these", "which"]
    table = markdown_table(header, rows)
    text = (
        "# Engines that run the exported files\n\n"
        f"{len(cases)} files in batches of 1 and 7, compared with onnxruntime. Equal: integers "
        f"are identical, and floats within {EQUAL:.0e}.\n\n"
        f"{table}\n{machine('onnxruntime', 'onnx', 'numpy')}\n"
    )
    write_results("engines", values, text)


if __name__ == "__main__":
    main()
