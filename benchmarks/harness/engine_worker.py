"""Runs one exported file in the engine of this Python environment: a process of its own.

    python engine_worker.py ENGINE CASE

``CASE`` has ``model.onnx``, the names of its outputs in ``names.npy``, and ``inputs_0.npz``, ...
The outputs are written to ``outputs_0.npz``, ... there. It imports numpy and the engine only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, Any]
Run = Callable[[Arrays], Arrays]


def output_names(path: str) -> list[str]:
    """The file's outputs in order, for engines that rename them."""
    return [name.decode() for name in np.load(Path(path).parent / "names.npy")]


def onnxruntime(path: str) -> Run:
    """onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def onnx(path: str) -> Run:
    """The reference evaluator of the package ``onnx``."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(path)
    names = evaluator.output_names
    return lambda inputs: dict(zip(names, evaluator.run(None, dict(inputs)), strict=True))


def openvino(path: str) -> Run:
    """OpenVINO in float32; by default it may compute in bfloat16."""
    from openvino import Core

    model = Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = output_names(path)

    def run(inputs: Arrays) -> Arrays:
        results = model(dict(inputs))
        return {name: results[index] for index, name in enumerate(names)}

    return run


def opencv(path: str) -> Run:
    """OpenCV's module ``dnn``. Version 4 knows float32 inputs only."""
    import cv2

    names = output_names(path)
    net = cv2.dnn.readNetFromONNX(path)
    is_old = cv2.__version__.startswith("4")

    def run(inputs: Arrays) -> Arrays:
        for name, array in inputs.items():
            net.setInput(array.astype(np.float32) if is_old else array, name)
        ends = {each.split("!")[-1]: each for each in net.getUnconnectedOutLayersNames()}
        asked = [ends.get(name, name) for name in names]
        return dict(zip(names, net.forward(asked), strict=True))

    return run


ENGINES = {each.__name__: each for each in (onnxruntime, onnx, openvino, opencv)}


def main() -> None:
    """Run the file on all inputs."""
    engine, case = sys.argv[1], Path(sys.argv[2])
    run = ENGINES[engine](str(case / "model.onnx"))
    for given in sorted(case.glob("inputs_*.npz")):
        with np.load(given) as inputs:
            outputs = run(dict(inputs))
        np.savez(case / given.name.replace("inputs", "outputs"), **outputs)


if __name__ == "__main__":
    main()
