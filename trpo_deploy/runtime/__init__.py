"""Run an exported policy: numpy and onnxruntime, nothing else."""

from trpo_deploy.runtime.policy import OnnxPolicy

__all__ = ["OnnxPolicy"]
