"""What each kind of consumer of an exported policy needs: opset, IR version, names, outputs.

Names and versions are decided here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

from trpo_deploy.spec.policy_spec import ACTION

OBS_OK = "obs_ok"
"""The guard's output."""
OUTPUTS = (ACTION, "value", "log_prob", "logits", "mean", "std", "margin", OBS_OK)
"""All outputs that a file can have, beside the next states of frame stacks."""
ON_REQUEST = OUTPUTS[1:-1]
"""Those that ``--add-output`` takes."""


@dataclass(frozen=True)
class Profile:
    """One kind of consumer."""

    name: str
    opset: int
    """Version of ONNX's standard operators."""
    ir_version: int
    """Version of the file format; onnxruntime 1.15 reads up to 9, older engines up to 8."""
    outputs: tuple[str, ...] = ()
    """What the consumer is given beside the action."""


ONNX = Profile("onnx", opset=13, ir_version=8)
"""Any engine: operators and a format that all of them have had for years."""
