"""The target ``leapp``: a LEAPP description beside the ONNX file, for robots' runtimes."""
