"""Engines that only some users have: a file is compared in those that ``verify --engine`` names.

A certificate does not use what happens to be installed: see ``docs/decisions/engines.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from trpo_deploy.errors import ExportError, PolicyFileError, ToolMissingError
from trpo_deploy.export.certify.batches import size_of
from trpo_deploy.export.certify.engines import Engine, Run, converted, expose_parameters, one_line
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.graph.distribution import PARAMETERS
from trpo_deploy.spec.policy_spec import Inputs
from trpo_deploy.spec.spaces import Array

Load = Callable[[bytes, tuple[str, ...]], Run]
"""Loads the content of a file with the names of its outputs."""


@dataclass(frozen=True)
class OtherEngine:
    """How to find an engine, and how to load a file in it."""

    packages: tuple[str, ...]
    """Distribution packages that contain it. One is enough."""
    load: Load

    def package(self) -> str:
        """The installed package.

        Raises:
            ToolMissingError: None is installed.
        """
        installed = (name for name in self.packages if any(metadata.distributions(name=name)))
        package = next(installed, None)
        if package is None:
            name = self.packages[0]
            raise ToolMissingError(f"{name} is not installed; run: pip install {name}")
        return package


def _openvino(content: bytes, names: tuple[str, ...]) -> Run:
    import openvino

    core = openvino.Core()
    # By default it computes in bfloat16 on some processors.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(core.read_model(content), "CPU", settings)

    def run(batch: Inputs) -> Mapping[str, Any]:
        found = model(dict(batch))
        return {name: found[index] for index, name in enumerate(names)}

    return run


def _tract(content: bytes, names: tuple[str, ...]) -> Run:
    import tract

    with TemporaryDirectory(prefix="trpo-deploy-") as folder:
        path = Path(folder) / "policy.onnx"
        path.write_bytes(content)
        model = tract.onnx().load(path)
    inputs = [model.input_name(index) for index in range(model.input_count())]
    session = model.into_model().into_runnable()

    def run(batch: Inputs) -> Mapping[str, Any]:
        found = session.run([batch[name] for name in inputs])
        return {name: each.to_numpy() for name, each in zip(names, found, strict=True)}

    return run


def _opencv(content: bytes, names: tuple[str, ...]) -> Run:
    import cv2

    net = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
    takes_float32_only = int(cv2.__version__.partition(".")[0]) < 5

    def run(batch: Inputs) -> Mapping[str, Any]:
        for name, array in batch.items():
            net.setInput(array.astype(np.float32) if takes_float32_only else array, name)
        return dict(zip(names, net.forward(names), strict=True))

    return run


OTHER_ENGINES: Mapping[str, OtherEngine] = {
    "openvino": OtherEngine(("openvino",), _openvino),
    "tract": OtherEngine(("tract",), _tract),
    "opencv": OtherEngine(
        ("opencv-python-headless", "opencv-python", "opencv-contrib-python"), _opencv
    ),
}
"""By the name in ``--engine`` and in the certificate."""


def load_other_engines(file: ExportedFile, names: Iterable[str]) -> list[Engine]:
    """Load a file in engines of :data:`OTHER_ENGINES`.

    Args:
        file: The file.
        names: Names of the engines.

    Raises:
        ExportError: An engine is unknown.
        ToolMissingError: An engine is not installed.
        PolicyFileError: An engine cannot load the file. :attr:`Engine.run` raises it too.
    """
    return [_load(name, file) for name in dict.fromkeys(names)]


def _load(name: str, file: ExportedFile) -> Engine:
    if name not in OTHER_ENGINES:
        raise ExportError(f"unknown engine {name!r}; expected one of {', '.join(OTHER_ENGINES)}")
    engine = OTHER_ENGINES[name]
    package = engine.package()
    model = expose_parameters(file.model)
    outputs = tuple(each.name for each in model.graph.output)

    def guarded(call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:  # the engines' errors share no base class
            raise PolicyFileError(f"{name} cannot run the file ({one_line(error)})") from error

    session = guarded(engine.load, model.SerializeToString(), outputs)
    shapes = {PARAMETERS: (-1,)} | {each.name: each.shape for each in file.spec.outputs}

    def shaped(batch: Inputs) -> Mapping[str, Array]:
        rows, found = size_of(batch), session(batch)
        # OpenCV 4 has no arrays of one dimension.
        return {name: found[name].reshape(rows, *shape) for name, shape in shapes.items()}

    run = converted(lambda batch: guarded(shaped, batch), file.spec.inputs)
    return Engine(name, package, run, is_slow=False)
