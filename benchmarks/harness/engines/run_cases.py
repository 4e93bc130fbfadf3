"""Run cases in an engine, as a process of its own; see ``case.py``.

    python run_cases.py ENGINE CASE ...

It needs numpy and the engine only. For each case it writes the outputs and ``found.json``: the
engine's version and the types of its outputs, or the error with which it refuses the file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from trpo_deploy.export.certify.engine_loaders import (
    Arrays,
    RunArrays,
    load_opencv,
    load_openvino,
    load_tract,
)

LONGEST = 500
"""Characters of an engine's message."""
Load = Callable[[Path, dict[str, Any]], RunArrays]
"""Loads the case of a folder, which ``case.json`` describes."""


def onnxruntime(case: Path, _: dict[str, Any]) -> RunArrays:
    """onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(case / "policy.onnx"), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def onnx(case: Path, _: dict[str, Any]) -> RunArrays:
    """The reference evaluator of the package ``onnx``."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(case / "policy.onnx"))
    names = evaluator.output_names
    return lambda inputs: dict(zip(names, evaluator.run(None, dict(inputs)), strict=True))


def from_content(load: Callable[[bytes, tuple[str, ...]], RunArrays]) -> Load:
    """An engine that ``verify --engine`` has too."""

    def load_case(case: Path, described: dict[str, Any]) -> RunArrays:
        names = tuple(each["name"] for each in described["outputs"])
        return load((case / "policy.onnx").read_bytes(), names)

    return load_case


def mnn(case: Path, described: dict[str, Any]) -> RunArrays:
    """MNN, after a conversion to its own format. It takes float32 and int32."""
    import _tools  # what the command mnnconvert calls; the command itself uploads statistics
    import MNN
    from MNN import expr

    converted = case / "policy.mnn"
    files = ["--modelFile", str(case / "policy.onnx"), "--MNNModel", str(converted)]
    _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *files, "--bizCode", "policy"])
    if not converted.is_file():
        raise RuntimeError("mnnconvert writes no file")
    inputs, outputs = ([each["name"] for each in described[kind]] for kind in ("inputs", "outputs"))
    network = MNN.nn.load_module_from_file(
        str(converted), inputs, outputs, precision_mode=expr.PrecisionMode.High
    )

    def variable(array: Any) -> Any:
        dtype, kind = (np.float32, expr.float) if array.dtype.kind == "f" else (np.int32, expr.int)
        return expr.const(array.astype(dtype), list(array.shape), expr.NCHW, kind)

    def run(batch: Arrays) -> Arrays:
        found = network.forward([variable(batch[name]) for name in inputs])
        return {name: each.read().copy() for name, each in zip(outputs, found, strict=True)}

    return run


def emx(case: Path, described: dict[str, Any]) -> RunArrays:
    """C99 of ``emx-onnx-cgen``, compiled with gcc; a batch is row after row."""
    import ctypes

    source, library = case / "emx.c", case / "emx.so"
    generate = ["compile", "--input-dim", "batch=1", "--model-name", "policy"]
    limits = ["--large-temp-threshold", "0", "--large-weight-threshold", "0"]
    command = [sys.executable, "-m", "emx_onnx_cgen", *generate, *limits]
    checked([*command, case / "policy.onnx", source])
    checked(["gcc", "-std=c99", "-O1", "-shared", "-fPIC", source, "-o", library, "-lm"])
    function = ctypes.CDLL(str(library)).policy
    function.restype = None

    def run(batch: Arrays) -> Arrays:
        rows = len(next(iter(batch.values())))
        found = {
            each["name"]: np.zeros((rows, *each["shape"]), each["dtype"])
            for each in described["outputs"]
        }
        arrays = [*batch.values(), *found.values()]
        for row in range(rows):
            function(*(ctypes.c_void_p(each[row : row + 1].ctypes.data) for each in arrays))
        return found

    return run


def checked(command: list[Any]) -> None:
    """Run a command.

    Raises:
        RuntimeError: It fails; the message is the last line that it wrote.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise RuntimeError(lines[-1])


def target(name: str) -> Load:
    """A target of this project's export; a batch is row after row."""

    def load_case(case: Path, described: dict[str, Any]) -> RunArrays:
        from trpo_deploy.export import TargetOptions, export_file
        from trpo_deploy.export.certify.exported_file import ExportedFile
        from trpo_deploy.export.policy.outputs import OBS_OK
        from trpo_deploy.export.targets.target import target_module
        from trpo_deploy.spec.policy_spec import ACTION

        folder = case / name
        export_file(
            case / "policy.onnx", TargetOptions(name, folder, "policy", force=True), verify=False
        )
        spec = ExportedFile.parse((case / "policy.onnx").read_bytes()).spec
        engine = target_module(name).load(folder, "policy", spec)
        keys = {each.name: each.key for each in spec.inputs}

        def run(batch: Arrays) -> Arrays:
            found = engine.run({keys[name]: array for name, array in batch.items()})
            asked = {each["name"] for each in described["outputs"]} & {ACTION, OBS_OK}
            return {name: found[name] for name in asked}

        return run

    return load_case


def distribution(name: str) -> Callable[[], str]:
    """The version of a package."""
    return lambda: metadata.version(name)


def compiler() -> str:
    """The version of the C compiler in ``$CC``."""
    command = [os.environ["CC"], "-dumpversion"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def node() -> str:
    """The version of Node.js."""
    command = ["node", "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()[1:]


ENGINES: dict[str, tuple[Load, Callable[[], str]]] = {
    "onnxruntime": (onnxruntime, distribution("onnxruntime")),
    "onnx": (onnx, distribution("onnx")),
    "openvino": (from_content(load_openvino), distribution("openvino")),
    "tract": (from_content(load_tract), distribution("tract")),
    "opencv": (from_content(load_opencv), distribution("opencv-python-headless")),
    "mnn": (mnn, distribution("MNN")),
    "emx": (emx, distribution("emx-onnx-cgen")),
    "c": (target("c"), compiler),
    "web": (target("web"), node),
}
"""How each engine loads a case, and its version."""


def read_inputs(case: Path, described: dict[str, Any]) -> list[dict[str, Any]]:
    """The inputs of each batch, by name."""
    return [
        {
            each["name"]: np.fromfile(case / f"{batch}.input.{number}", each["dtype"]).reshape(
                rows, *each["shape"]
            )
            for number, each in enumerate(described["inputs"])
        }
        for batch, rows in enumerate(described["batches"])
    ]


def run_case(load: Load, case: Path) -> dict[str, Any]:
    """Run all batches; the types of the outputs, or the error."""
    described = json.loads((case / "case.json").read_text())
    try:
        run = load(case, described)
        outputs = [run(inputs) for inputs in read_inputs(case, described)]
    except Exception as error:  # the engines' errors share no base class
        # Neither tract's stack nor the folder says something about the file.
        message = str(error).partition("Stack backtrace")[0].replace(str(case), "")
        return {"error": " ".join(message.split())[:LONGEST] or type(error).__name__}
    for batch, found in enumerate(outputs):
        for number, each in enumerate(described["outputs"]):
            if each["name"] in found:
                values = np.asarray(found[each["name"]]).astype("<f8")
                values.tofile(case / f"{batch}.output.{number}")
    return {"types": {name: str(np.asarray(each).dtype) for name, each in outputs[0].items()}}


def main() -> None:
    """Run the cases and write ``found.json`` in each."""
    load, version_of = ENGINES[sys.argv[1]]
    version = version_of()
    for case in map(Path, sys.argv[2:]):
        found = {"version": version, **run_case(load, case)}
        (case / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
