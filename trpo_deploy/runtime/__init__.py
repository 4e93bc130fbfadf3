"""Run an exported policy. Needs numpy and onnxruntime only."""

from trpo_deploy.runtime.controller import Controller
from trpo_deploy.runtime.loop_stats import ControllerStats
from trpo_deploy.runtime.onnx_policy import OnnxPolicy
from trpo_deploy.runtime.session import Session

__all__ = ["Controller", "ControllerStats", "OnnxPolicy", "Session"]
