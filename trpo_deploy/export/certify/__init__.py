"""Proof that an ONNX file is the trained policy: the comparison with SB3, and its certificate."""
