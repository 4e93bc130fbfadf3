"""The policy as an ONNX graph."""
