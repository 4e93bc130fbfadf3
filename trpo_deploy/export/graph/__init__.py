"""Builds the ONNX graph of a policy from its plain arrays."""
