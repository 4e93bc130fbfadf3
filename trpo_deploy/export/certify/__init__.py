"""Compares an ONNX file with the trained policy and issues its certificate."""
