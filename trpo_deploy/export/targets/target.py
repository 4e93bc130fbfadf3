"""What a target is: it writes files from a finished policy, and runs them to check them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.targets.golden import Golden
from trpo_deploy.export.targets.table import TARGETS
from trpo_deploy.spec.policy_spec import PolicySpec


@dataclass(frozen=True, eq=False)
class FinishedPolicy:
    """An exported policy, from which a target writes its files."""

    file: ExportedFile
    golden: Golden
    """Rows to check the target's files with."""


class TargetModule(Protocol):
    """The functions of a target's module."""

    def write(self, policy: FinishedPolicy, name: str) -> Mapping[str, bytes | str]:
        """The target's files by name.

        Args:
            policy: The policy.
            name: Name of the policy in the files: an identifier.

        Raises:
            ExportError: The target cannot hold the policy.
        """

    def load(self, folder: Path, name: str, spec: PolicySpec) -> Engine:
        """The target's files, ready to run on this machine.

        Args:
            folder: Folder with the files that :meth:`write` returned. It stays while the engine is
                in use.
            name: Name of the policy in the files.
            spec: The policy's spec.

        Raises:
            ToolMissingError: This machine lacks the compiler or interpreter.
            ExportError: The files cannot be run.
        """


def target_module(name: str) -> TargetModule:
    """The module of a target of :data:`~trpo_deploy.export.targets.table.TARGETS`."""
    return cast(TargetModule, import_module(TARGETS[name].module))
