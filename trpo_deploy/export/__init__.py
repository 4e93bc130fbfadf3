"""Write a policy as one ONNX file and prove that it is the policy. Needs the extra ``export``."""

from trpo_deploy.export.certify.certificate import Certificate
from trpo_deploy.export.certify.parity import Check
from trpo_deploy.export.exporter import (
    Export,
    ExportOptions,
    export_model,
    export_policy,
    verify_policy,
)
from trpo_deploy.sb3.source import SourceOptions

__all__ = [
    "Certificate",
    "Check",
    "Export",
    "ExportOptions",
    "SourceOptions",
    "export_model",
    "export_policy",
    "verify_policy",
]
