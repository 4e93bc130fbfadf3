"""Run an exported policy: numpy and onnxruntime, nothing else."""

from trpo_deploy.runtime.onnx_policy import OnnxPolicy
from trpo_deploy.runtime.session import Session

__all__ = ["OnnxPolicy", "Session"]
