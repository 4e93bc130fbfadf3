"""The engines of the table: how each is installed, and the command that runs cases in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
FOLDER = ROOT / "build" / "engine-table"
"""Each engine is installed in a folder of its own here, and stays there."""
OLD_NUMPY = "numpy<2"

Command = tuple[Any, ...]
"""Runs the cases whose folders are appended."""


@dataclass(frozen=True)
class Engine:
    """A column of the table."""

    install: Callable[[Path], Command]
    """Installs the engine in a folder if it is not there yet; returns how to run cases."""
    variables: Mapping[str, str]
    """Environment variables of its process."""


def pip(worker: str, *requirements: str) -> Engine:
    """Python packages in a virtual environment. Without a version, the newest one is installed."""

    def install(home: Path) -> Command:
        python = home / "bin" / "python"
        if not (home / "installed").exists():
            venv.create(home, with_pip=True, clear=True)
            packages = ["--quiet", "--only-binary", ":all:", "numpy", *requirements]
            subprocess.run([python, "-m", "pip", "install", *packages], **QUIET)
            (home / "installed").touch()
        return python, HERE / "run_cases.py", worker

    return Engine(install, {"PYTHONPATH": str(ROOT)})


def npm(package: str) -> Engine:
    """A package of ``package-lock.json``, in Node."""

    def install(home: Path) -> Command:
        if not (home / "node_modules").is_dir():
            home.mkdir(parents=True, exist_ok=True)
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(HERE / name, home)
            subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=home, **QUIET)
        return "node", HERE / "run_cases.mjs", package, home

    return Engine(install, {})


def here(worker: str, *tools: str, **variables: str) -> Engine:
    """An engine of this environment, and the programs that it needs."""

    def install(_: Path) -> Command:
        for tool in tools:
            if shutil.which(tool) is None:
                raise FileNotFoundError(f"no {tool} on this machine")
        return sys.executable, HERE / "run_cases.py", worker

    return Engine(install, {"PYTHONPATH": str(ROOT), **variables})


QUIET: Any = {"check": True, "capture_output": True, "text": True}
ENGINES: dict[str, Engine] = {
    "onnxruntime 1.15": pip("onnxruntime", "onnxruntime==1.15.1", OLD_NUMPY),
    "onnxruntime": pip("onnxruntime", "onnxruntime"),
    "onnxruntime-node": npm("onnxruntime-node"),
    "onnxruntime-web (wasm)": npm("onnxruntime-web"),
    "onnx reference": here("onnx"),
    "OpenVINO (f32)": pip("openvino", "openvino"),
    "tract": pip("tract", "tract"),
    "OpenCV 4.6": pip("opencv", "opencv-python-headless==4.6.0.66", OLD_NUMPY),
    "OpenCV 4.11": pip("opencv", "opencv-python-headless==4.11.0.86", OLD_NUMPY),
    "OpenCV": pip("opencv", "opencv-python-headless"),
    "MNN": pip("mnn", "MNN"),
    "emx-onnx-cgen (gcc)": pip("emx", "emx-onnx-cgen"),
    "our C (gcc)": here("c", "gcc", CC="gcc"),
    "our C (clang)": here("c", "clang", CC="clang"),
    "our JavaScript (node)": here("web", "node"),
}
"""By the name in the table. Where it has no version, the newest one was run."""


def command_of(name: str) -> Command:
    """Install an engine.

    Raises:
        OSError: A program is missing.
        subprocess.CalledProcessError: The installation fails.
    """
    return ENGINES[name].install(FOLDER / name.replace(" ", "-"))


def environment_of(name: str) -> dict[str, str]:
    """The environment variables of an engine's process."""
    return {**os.environ, "ORT_DISABLE_TELEMETRY": "1", **ENGINES[name].variables}
