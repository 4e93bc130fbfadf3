"""The targets of the export. A new one is an entry here and a module. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trpo_deploy.errors import ExportError

DEFAULT = "onnx"
"""The default: one ONNX file, written by the exporter itself."""


@dataclass(frozen=True)
class Target:
    """A form of the policy beside the ONNX file."""

    summary: str
    """What it writes, for ``--help``."""
    module: str
    """Module with the functions of :class:`~trpo_deploy.export.targets.target.TargetModule`."""


TARGETS: Mapping[str, Target] = {
    "c": Target("C99 source without dependencies", "trpo_deploy.export.targets.c.target"),
    "web": Target("JavaScript for pages and Node", "trpo_deploy.export.targets.web.target"),
    "unity": Target("ONNX file for Unity's ML-Agents", "trpo_deploy.export.targets.unity.target"),
    "godot": Target("ONNX file for Godot RL Agents", "trpo_deploy.export.targets.godot.target"),
    "leapp": Target("LEAPP description for robots", "trpo_deploy.export.targets.leapp.target"),
}
"""Targets that are a folder of files."""


def check_target(name: str) -> None:
    """Raise if there is no such target.

    Raises:
        ExportError: The name is unknown.
    """
    if name not in (DEFAULT, *TARGETS):
        raise ExportError(
            f"unknown target {name!r}; expected one of {', '.join((DEFAULT, *TARGETS))}"
        )
