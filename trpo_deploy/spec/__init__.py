"""The contract of a ``policy.onnx``: its spaces, inputs, outputs and origin. Needs numpy only."""

from trpo_deploy.spec.policy_spec import PolicySpec

__all__ = ["PolicySpec"]
