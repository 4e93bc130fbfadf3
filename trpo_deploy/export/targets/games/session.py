"""onnxruntime in place of a game's engine."""

from __future__ import annotations

import onnxruntime as ort

from trpo_deploy.errors import ExportError


def load_session(content: bytes, engine: str) -> ort.InferenceSession:
    """Load a file.

    Raises:
        ExportError: onnxruntime cannot load it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base class
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"the file for {engine} cannot be loaded ({reason})") from error
