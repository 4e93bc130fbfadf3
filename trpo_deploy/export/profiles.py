"""What each kind of consumer of an exported policy needs: opset, IR version and outputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """One kind of consumer."""

    name: str
    opset: int
    """Version of ONNX's standard operators."""
    ir_version: int
    """Version of the file format; onnxruntime 1.15 reads up to 9, older engines up to 8."""


ONNX = Profile("onnx", opset=13, ir_version=8)
"""Any engine: operators and a format that all of them have had for years."""
