"""Load an ONNX file in OpenVINO, tract or OpenCV. Needs numpy and the engine only.

``verify --engine`` and ``benchmarks/engines.py`` use the same loaders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np

Arrays: TypeAlias = Mapping[str, Any]
RunArrays: TypeAlias = Callable[[Arrays], Arrays]
"""From all inputs to all outputs, by name."""
Load: TypeAlias = Callable[[bytes, tuple[str, ...]], RunArrays]
"""Loads the content of a file with the names of its outputs."""


def load_openvino(content: bytes, names: tuple[str, ...]) -> RunArrays:
    """OpenVINO in float32, on the CPU."""
    import openvino

    core = openvino.Core()
    # By default it computes in bfloat16 on some processors.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(core.read_model(content), "CPU", settings)

    def run(batch: Arrays) -> Arrays:
        found = model(dict(batch))
        return {name: found[index] for index, name in enumerate(names)}

    return run


def load_tract(content: bytes, names: tuple[str, ...]) -> RunArrays:
    """Tract, on the CPU."""
    import tract

    with TemporaryDirectory(prefix="trpo-deploy-") as folder:
        path = Path(folder) / "policy.onnx"
        path.write_bytes(content)
        model = tract.onnx().load(path)
    inputs = [model.input_name(index) for index in range(model.input_count())]
    session = model.into_model().into_runnable()

    def run(batch: Arrays) -> Arrays:
        found = session.run([batch[name] for name in inputs])
        return {name: each.to_numpy() for name, each in zip(names, found, strict=True)}

    return run


def load_opencv(content: bytes, names: tuple[str, ...]) -> RunArrays:
    """OpenCV's module ``dnn``. Version 4 takes float32 only, and has no arrays of one dimension."""
    import cv2

    net = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    takes_float32_only = int(cv2.__version__.partition(".")[0]) < 5

    def run(batch: Arrays) -> Arrays:
        for name, array in batch.items():
            net.setInput(array.astype(np.float32) if takes_float32_only else array, name)
        return dict(zip(names, net.forward(names), strict=True))

    return run
