"""Write a policy as one ONNX file and prove that it is the policy. Needs the extra ``export``."""

from trpo_deploy.export.certificate import Certificate, Check
from trpo_deploy.export.exporter import (
    Export,
    certificate_path,
    export_policy,
    verify_policy,
)

__all__ = ["Certificate", "Check", "Export", "certificate_path", "export_policy", "verify_policy"]
