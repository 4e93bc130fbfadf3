"""The target ``triton``: a model repository of NVIDIA Triton Inference Server."""
