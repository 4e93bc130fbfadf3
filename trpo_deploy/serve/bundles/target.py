"""What a target of ``bundle`` is: it writes a folder, and says what to do with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from trpo_deploy.serve.bundles.table import find_target


@dataclass(frozen=True)
class Contents:
    """What to pack."""

    name: str
    """Name of the bundle: of the image, and of the objects in a cluster (a DNS label)."""
    models: Mapping[str, Path]
    """By the name under which a model is served: the folder with its ``policy.onnx``, and with its
    certificate and signature if it has them."""
    models_from: str = ""
    """One of the places of :attr:`~trpo_deploy.serve.bundles.table.Target.models_from`."""


class TargetModule(Protocol):
    """The functions of a target's module."""

    def write(self, contents: Contents, folder: Path) -> None:
        """Write the bundle.

        Args:
            contents: What to pack.
            folder: An empty folder.

        Raises:
            ServeError: The target cannot hold a model, or BentoML fails.
        """

    def next_steps(self, contents: Contents, folder: Path) -> Sequence[tuple[str, str]]:
        """Commands for what comes next, each with a word for what it does.

        Args:
            contents: What was packed.
            folder: Where the bundle is.
        """


def target_module(name: str) -> TargetModule:
    """The module of a target.

    Raises:
        ServeError: The name is unknown.
    """
    return cast(TargetModule, import_module(find_target(name).module))
