"""Engines that only some users have: a file is compared in those that ``verify --engine`` names.

A certificate does not use what happens to be installed: see ``docs/decisions/engines.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from trpo_deploy.errors import ExportError, PolicyFileError, ToolMissingError
from trpo_deploy.export.certify.batches import size_of
from trpo_deploy.export.certify.engine_loaders import (
    Load,
    load_opencv,
    load_openvino,
    load_tract,
)
from trpo_deploy.export.certify.engines import Engine, converted, expose_parameters, one_line
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.graph.distribution import PARAMETERS
from trpo_deploy.spec.policy_spec import Inputs
from trpo_deploy.spec.spaces import Array


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


OTHER_ENGINES: Mapping[str, OtherEngine] = {
    "openvino": OtherEngine(("openvino",), load_openvino),
    "tract": OtherEngine(("tract",), load_tract),
    "opencv": OtherEngine(
        (
            "opencv-python-headless",
            "opencv-python",
            "opencv-contrib-python",
            "opencv-contrib-python-headless",
        ),
        load_opencv,
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
