"""Write a policy as one ONNX file and prove that it is the policy. Needs the extra ``export``.

The names below are resolved when they are first used, so that importing a part of this package
does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trpo_deploy.export.certify.certificate import Certificate as Certificate
    from trpo_deploy.export.certify.check import Check as Check
    from trpo_deploy.export.exporter import Export as Export
    from trpo_deploy.export.exporter import ExportOptions as ExportOptions
    from trpo_deploy.export.exporter import export_model as export_model
    from trpo_deploy.export.exporter import export_policy as export_policy
    from trpo_deploy.export.exporter import verify_policy as verify_policy
    from trpo_deploy.export.targets.export import TargetExport as TargetExport
    from trpo_deploy.export.targets.export import TargetOptions as TargetOptions
    from trpo_deploy.export.targets.export import export_file as export_file
    from trpo_deploy.export.targets.export import export_target as export_target
    from trpo_deploy.export.targets.export import verify_target as verify_target
    from trpo_deploy.export.targets.export import verify_target_file as verify_target_file
    from trpo_deploy.sb3.source import SourceOptions as SourceOptions

__all__ = [
    "Certificate",
    "Check",
    "Export",
    "ExportOptions",
    "SourceOptions",
    "TargetExport",
    "TargetOptions",
    "export_file",
    "export_model",
    "export_policy",
    "export_target",
    "verify_policy",
    "verify_target",
    "verify_target_file",
]

# name -> the module that defines it
_PUBLIC = {
    "Certificate": "trpo_deploy.export.certify.certificate",
    "Check": "trpo_deploy.export.certify.check",
    "Export": "trpo_deploy.export.exporter",
    "ExportOptions": "trpo_deploy.export.exporter",
    "SourceOptions": "trpo_deploy.sb3.source",
    "export_model": "trpo_deploy.export.exporter",
    "export_policy": "trpo_deploy.export.exporter",
    "verify_policy": "trpo_deploy.export.exporter",
    "TargetExport": "trpo_deploy.export.targets.export",
    "TargetOptions": "trpo_deploy.export.targets.export",
    "export_file": "trpo_deploy.export.targets.export",
    "export_target": "trpo_deploy.export.targets.export",
    "verify_target": "trpo_deploy.export.targets.export",
    "verify_target_file": "trpo_deploy.export.targets.export",
}


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
