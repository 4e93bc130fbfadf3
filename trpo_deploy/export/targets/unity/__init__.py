"""The target ``unity``: an ONNX file under the contract of Unity's ML-Agents."""
